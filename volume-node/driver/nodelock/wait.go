package nodelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

const (
	firstPause = time.Millisecond
	longPause  = 50 * time.Millisecond
	tellEvery  = 5 * time.Second        // how often a wait is told again
	lookAgain  = 200 * time.Millisecond // after holders were ended: for children born meanwhile
)

// waiter is one claim that waits for one lock.
type waiter struct {
	folder *Folder
	name   string
	claim  Claim
	since  time.Time // of the wait
	last   Record    // the holder's record when it was last looked at
	due    time.Time // when the holder is ended
	told   time.Time
	next   time.Duration // pause before the next look
}

func newWaiter(f *Folder, name string, claim Claim) *waiter {
	now := time.Now()
	return &waiter{folder: f, name: name, claim: claim, since: now, due: now.Add(f.opts.Limit), next: firstPause}
}

// look is called with the file each time the lock was found held. It refuses a claim that was overtaken, tells the
// holder that it was, tells people, and ends the holder when its time is up.
func (w *waiter) look(file *os.File) error {
	have, err := readFile(file)
	if err != nil {
		return fmt.Errorf("lock %s: %w", w.name, err)
	}
	if w.claim.Fence.Less(have.highest()) {
		return fenced(w.name, w.claim.Fence, have.highest())
	}
	if have.holder != w.last { // another holder: it gets its own time
		w.last, w.due = have.holder, time.Now().Add(w.folder.opts.Limit)
	}
	if err := w.wish(file, have); err != nil {
		return fmt.Errorf("lock %s: %w", w.name, err)
	}
	if time.Now().Before(w.due) {
		w.tell(have.holder)
		return nil
	}
	return w.end(file, have.holder)
}

// wish leaves the claim's fence in the file, so that a holder that is alive lets go by itself. Of two that write at
// the same moment the higher one finds its wish gone when it looks again, and repeats it.
func (w *waiter) wish(file *os.File, have state) error {
	if !have.wish.Fence.Less(w.claim.Fence) || have.empty || !have.holder.Fence.Less(w.claim.Fence) {
		return nil
	}
	self := w.folder.self
	return writeWish(file, Record{Fence: w.claim.Fence, PID: self.pid, Start: self.start, Operation: w.claim.Operation})
}

// tell says whom the claim waits for, at the beginning and then now and then.
func (w *waiter) tell(r Record) {
	now := time.Now()
	if !w.told.IsZero() && now.Sub(w.told) < tellEvery {
		return
	}
	if w.told.IsZero() {
		w.folder.opts.Log.Info("waiting for a file lock", "lock", w.name, "operation", w.claim.Operation,
			"fence", w.claim.Fence, "holder_pid", r.PID, "holder_operation", r.Operation, "holder_fence", r.Fence)
	}
	w.told = now
	if w.claim.Waiting != nil {
		w.claim.Waiting(w.why(r, now))
	}
}

func (w *waiter) why(r Record, now time.Time) string {
	text := fmt.Sprintf("waits since %s for file lock %s, held by process %d for operation %s with fence %s",
		now.Sub(w.since).Round(time.Millisecond), w.name, r.PID, r.Operation, r.Fence)
	switch {
	case r.PID == w.folder.self.pid && r.Start == w.folder.self.start:
		return text + " (this process: it lets go by itself)"
	case r.Fence.Less(w.claim.Fence):
		return text + fmt.Sprintf("; that process is ended in %s", w.due.Sub(now).Round(time.Second))
	default:
		return text
	}
}

// end ends the processes that hold the lock, if the claim may.
func (w *waiter) end(file *os.File, r Record) error {
	limit := w.folder.opts.Limit
	log := w.folder.opts.Log.With("lock", w.name, "operation", w.claim.Operation, "fence", w.claim.Fence)
	found, err := holders(file)
	if err != nil {
		return fmt.Errorf("lock %s: who holds it: %w", w.name, err)
	}
	self := w.folder.self
	if slices.ContainsFunc(found, func(h holder) bool { return h.process == self }) {
		w.due = time.Now().Add(limit) // an overtaken goroutine of this process; it lets go by itself
		w.told = time.Time{}
		w.tell(r)
		return nil
	}
	if !w.mayEnd(found, r) {
		w.due = time.Now().Add(limit)
		w.tell(r)
		return nil
	}
	if len(found) == 0 {
		// It has come free meanwhile, or its holder cannot be seen from here.
		w.due = time.Now().Add(limit)
		log.Warn("holder of a file lock not found among the processes", "holder_pid", r.PID, "took", time.Since(w.since))
		return nil
	}
	for _, h := range found {
		did, err := endProcess(h.process, file)
		if err != nil {
			return fmt.Errorf("lock %s is held by an overtaken process that cannot be ended: %w", w.name, err)
		}
		if did {
			log.Warn("ended a process that held a file lock with a lower fence", "holder_pid", h.pid,
				"holder_operation", r.Operation, "holder_fence", r.Fence, "took", time.Since(w.since))
		}
	}
	w.due, w.next = time.Now().Add(min(limit, lookAgain)), firstPause
	return nil
}

// mayEnd reports whether the claim may end those who hold the lock. Three kinds: a holder with a lower fence; children
// that outlived the call of this process that started them; and a holder that has not even written its record within
// the limit: it is stopped, and its fence is not known.
func (w *waiter) mayEnd(found []holder, r Record) bool {
	named := slices.ContainsFunc(found, func(h holder) bool {
		return h.process == process{pid: r.PID, start: r.Start} || h.creator == r.PID
	})
	if !named || r.Fence.Less(w.claim.Fence) {
		return true
	}
	return r.Fence == w.claim.Fence && r.PID == w.folder.self.pid && r.Start == w.folder.self.start
}

// pause waits before the next look, longer each time.
func (w *waiter) pause(ctx context.Context) {
	timer := time.NewTimer(w.next)
	defer timer.Stop()
	w.next = min(2*w.next, longPause)
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// ended returns the context's error, with what it waited for.
func (w *waiter) ended(ctx context.Context, name string) error {
	err := context.Cause(ctx)
	if w == nil {
		return fmt.Errorf("lock %s: %w", name, err)
	}
	if ctxErr := ctx.Err(); !errors.Is(err, ctxErr) {
		err = errors.Join(ctxErr, err)
	}
	return fmt.Errorf("lock %s: held by process %d for operation %s: %w", name, w.last.PID, w.last.Operation, err)
}
