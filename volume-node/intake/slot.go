package intake

import "context"

// slots are the room of one backend for operations that are in work here.
//
// Invariant: a dispatch is asked for only while a slot is free, and with no other one asked for in its place. An operation that
// comes back from a wait may take the slot all the same: then the dispatch that was asked for is given back.
type slots struct {
	asked chan struct{} // one for each dispatch that is asked for, until its operation has ended or waits
	work  chan struct{} // one for each operation in work
	lent  chan struct{} // one for each that waits without a slot; as many at most, so that what fails for long fills no memory
}

func newSlots(n int) slots {
	return slots{asked: make(chan struct{}, n), work: make(chan struct{}, n), lent: make(chan struct{}, n)}
}

// slot is that of one dispatch, from the request for it on. It is used by one goroutine at a time.
type slot struct {
	of            slots
	asked, inWork bool
}

// ask waits until a dispatch may be asked for. The error is that of ctx.
func (s slots) ask(ctx context.Context) (*slot, error) {
	t := &slot{of: s}
	if err := put(ctx, s.asked); err != nil {
		return nil, err
	}
	t.asked = true
	if err := put(ctx, s.work); err != nil {
		t.free()
		return nil, err
	}
	<-s.work
	return t, nil
}

func put(ctx context.Context, ch chan<- struct{}) error {
	select {
	case ch <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin takes the slot for the dispatch that came, unless another operation has taken it meanwhile.
func (t *slot) begin() bool {
	select {
	case t.of.work <- struct{}{}:
		t.inWork = true
	default:
	}
	return t.inWork
}

func (t *slot) free() {
	if t.inWork {
		<-t.of.work
	}
	if t.asked {
		<-t.of.asked
	}
	t.asked, t.inWork = false, false
}

// lend gives the slot to others while wait takes its time, and takes one again.
func (t *slot) lend(ctx context.Context, wait func(context.Context) error) error {
	select {
	case t.of.lent <- struct{}{}:
		defer func() { <-t.of.lent }()
	default:
		return wait(ctx)
	}
	t.free()
	if err := wait(ctx); err != nil {
		return err
	}
	if err := put(ctx, t.of.work); err != nil {
		return err
	}
	t.inWork = true
	return nil
}
