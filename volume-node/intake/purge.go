package intake

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// purge removes dispatches that are done from the stream, in bulk: all of a backend up to its consumer's acknowledge
// floor. What is not acknowledged stands above the floor and is not touched. A marker is never used: it would be
// delivered.
func (i *Intake) purge(ctx context.Context, queues []*queue) {
	tick := time.NewTicker(i.cfg.PurgeEvery)
	defer tick.Stop()
	counted := make([]uint64, len(queues))
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for n, q := range queues {
			count := q.purgeable.Load()
			if count == counted[n] {
				continue
			}
			more, err := i.purgeQueue(ctx, q)
			if err != nil {
				if ctx.Err() == nil {
					i.log.DebugContext(ctx, "dispatches not purged, it is tried again", "backend", q.backend, "error", err)
				}
				continue
			}
			if !more {
				counted[n] = count
			}
		}
	}
}

// purgeQueue purges one backend's dispatches. more says that acknowledged ones still stand above the floor, because
// an older one is not done.
func (i *Intake) purgeQueue(ctx context.Context, q *queue) (more bool, err error) {
	info, err := (*q.consumer.Load()).Info(ctx)
	if err != nil {
		return false, err
	}
	floor := floorOf(info)
	if floor > q.purged {
		err := i.deps.Store.Stream().Purge(ctx, jetstream.WithPurgeSubject(q.filter), jetstream.WithPurgeSequence(floor+1))
		if err != nil {
			return false, err
		}
		q.purged = floor
	}
	return info.NumAckPending > 0, nil
}

// floorOf is the stream sequence up to which nothing is left to do. The server's own floor stays behind when a message
// was purged that it had delivered (nats-server 2.15): but what was delivered and is not pending is done.
func floorOf(info *jetstream.ConsumerInfo) uint64 {
	if info.NumAckPending == 0 {
		return max(info.AckFloor.Stream, info.Delivered.Stream)
	}
	return info.AckFloor.Stream
}
