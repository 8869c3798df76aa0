package view

import (
	"context"
	"iter"
	"sync"

	"github.com/scoria-storage/scoria/messages/block"
)

// waiters are told which operations changed. They are channels that are closed, so that nobody can hold up the feed.
type waiters struct {
	mu   sync.Mutex
	byID map[block.OperationID]*waiter
}

type waiter struct {
	changed chan struct{}
	users   int
}

func (w *waiters) init() { w.byID = map[block.OperationID]*waiter{} }

// add returns a channel that the next change of the operation closes, and what gives it back.
func (w *waiters) add(id block.OperationID) (changed <-chan struct{}, done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := w.byID[id]
	if one == nil {
		one = &waiter{changed: make(chan struct{})}
		w.byID[id] = one
	}
	one.users++
	return one.changed, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if one.users--; one.users == 0 && w.byID[id] == one {
			delete(w.byID, id)
		}
	}
}

// changed tells of a publication.
func (w *waiters) changed(ops map[block.OperationID]*Operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range ops {
		if one := w.byID[id]; one != nil {
			delete(w.byID, id)
			close(one.changed)
		}
	}
}

// WaitEnded returns the operation when it has ended or is stuck, at once if it is. An operation that is not in the view is read from the
// bucket. Errors: ErrNotFound, ctx's, ErrStopped.
func (v *View) WaitEnded(ctx context.Context, id block.OperationID) (*Operation, error) {
	for {
		op, changed, done, err := v.watchOne(ctx, id)
		if err != nil {
			return nil, err
		}
		if op.Settled() {
			done()
			return op, nil
		}
		err = v.sleep(ctx, changed)
		done()
		if err != nil {
			return nil, err
		}
	}
}

// Follow goes over the states of one operation: the present one, then one for each change, until it has ended. A slow reader misses states in
// between, never the last. An error ends it: ErrNotFound, also when the record of an ended operation was removed; ctx's; ErrStopped.
func (v *View) Follow(ctx context.Context, id block.OperationID) iter.Seq2[*Operation, error] {
	return func(yield func(*Operation, error) bool) {
		var last *Operation
		for {
			op, changed, done, err := v.watchOne(ctx, id)
			if err != nil {
				yield(nil, err)
				return
			}
			if last == nil || last.Revision != op.Revision || last.Step != op.Step || last.ProgressDone != op.ProgressDone {
				if last = op; !yield(op, nil) || op.Ended {
					done()
					return
				}
			}
			err = v.sleep(ctx, changed)
			done()
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// watchOne returns the operation and what its next change closes. done must be called unless there is an error.
func (v *View) watchOne(ctx context.Context, id block.OperationID) (op *Operation, changed <-chan struct{}, done func(), err error) {
	changed, done = v.waiters.add(id) // before the look, so that no change is missed
	if op, err = v.Lookup(ctx, id); err != nil {
		done()
		return nil, nil, nil, err
	}
	return op, changed, done, nil
}

func (v *View) sleep(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-v.stopped:
		return ErrStopped
	}
}
