package admit

import (
	"context"
	"errors"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
)

// leave ends an operation that waits in line. One that was granted just now is canceled as any other.
func (a *Admitter) leave(ctx context.Context, id block.OperationID, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	rec, err := a.locks.Leave(ctx, string(id), reason)
	if errors.Is(err, kvlock.ErrInvalid) {
		_, err = a.locks.Cancel(ctx, string(id), reason)
	}
	if err == nil {
		a.log.InfoContext(ctx, "operation gave up waiting", "operation", id, "reason", reason, "phase", rec.Phase.String())
	}
	return a.operated(id, "canceled", err)
}

// Waiter is an operation that waits in line until a time.
type Waiter struct {
	Operation block.OperationID
	Deadline  time.Time
}

// expireEvery is how often deadlines are looked at.
const expireEvery = 250 * time.Millisecond

// KeepDeadlines ends operations whose wait is over, until ctx ends. Every API node does so: of two that come at the same moment one finds
// the operation ended. Whoever goes through a line does so too; this is for lines where nothing happens.
func (a *Admitter) KeepDeadlines(ctx context.Context, waiting func() []Waiter) {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, w := range waiting() {
			if a.now().Before(w.Deadline) {
				continue
			}
			if err := a.expire(ctx, w.Operation); err != nil && ctx.Err() == nil {
				a.log.WarnContext(ctx, "operation past the deadline of its wait could not be ended, it is tried again", "operation", w.Operation, "error", err)
			}
		}
	}
}

func (a *Admitter) expire(ctx context.Context, id block.OperationID) error {
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	_, err := a.locks.Leave(ctx, string(id), kvlock.DeadlinePassed)
	if errors.Is(err, kvlock.ErrInvalid) || errors.Is(err, kvlock.ErrEnded) || errors.Is(err, kvlock.ErrNotFound) {
		return nil // granted or ended meanwhile
	}
	return err
}
