package sagakv

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/saga"
)

// Log is one worker's grant of one operation, as the journal of its run. It is used by one goroutine.
type Log struct {
	store  *kvtx.Store
	locker *kvlock.Locker
	grant  kvlock.Grant
	p      Payload
	head   saga.Head
}

var _ saga.Log = (*Log)(nil)

// Attach makes a Log of what kvlock's Adopt returned. saga.ErrFormat if the payload cannot be read.
func Attach(store *kvtx.Store, locker *kvlock.Locker, g kvlock.Grant, rec kvlock.Record) (*Log, error) {
	p, err := DecodePayload(rec.Payload)
	if err != nil {
		return nil, fmt.Errorf("operation %s: %w", rec.Owner, err)
	}
	return &Log{store: store, locker: locker, grant: g, p: p, head: headOf(rec, p)}, nil
}

// ID implements saga.Log: the operation.
func (l *Log) ID() saga.ID { return saga.ID(l.grant.Owner()) }

// Epoch implements saga.Log.
func (l *Log) Epoch() uint64 { return l.grant.Epoch() }

// Fence implements saga.Log.
func (l *Log) Fence() saga.Fence {
	f := l.grant.Fence()
	return saga.Fence{Era: f.Era, Rev: f.Rev}
}

// Head implements saga.Log.
func (l *Log) Head() saga.Head { return l.head }

// Grant is the grant as of the last Append.
func (l *Log) Grant() kvlock.Grant { return l.grant }

// Request is the application's part of the payload. Not to be modified.
func (l *Log) Request() []byte { return l.p.Request }

// errHeed refuses an entry that heeds cancel requests.
var errHeed = errors.New("cancel requested")

// Append implements saga.Log: one commit.
func (l *Log) Append(ctx context.Context, e saga.Entry) error {
	a, err := l.newAppend(e)
	if err != nil {
		return err
	}
	intended := l.grant.Intended()
	res, err := l.store.Update(ctx, a.keys(), a.stage)
	rec := a.found.Load()
	if rec != nil {
		l.head.Cancel = headOf(*rec, l.p).Cancel
	}
	switch {
	case err == nil:
		l.grant = l.grant.Saved(res)
		if intended {
			l.locker.Observe(kvlock.EventOf(kvlock.Adopted, *rec))
		}
		if e.Phase.Ended() {
			l.locker.Observe(kvlock.EventOf(kvlock.Released, *rec))
		}
	case errors.Is(err, kvlock.ErrApplied):
		l.grant = l.locker.GrantOf(*rec)
	default:
		return l.refused(err)
	}
	l.p.Run = e.Record
	l.head.Record = e.Record
	return nil
}

// refused says what an entry that was not committed means to the executor.
func (l *Log) refused(err error) error {
	if w := (*writeError)(nil); errors.As(err, &w) {
		return &saga.RefusedError{Err: w.result()}
	}
	var adopted *kvlock.AdoptedError
	switch {
	case errors.Is(err, errHeed):
		return fmt.Errorf("operation %s: %w", l.grant.Owner(), saga.ErrCanceled)
	case errors.As(err, &adopted):
		l.locker.Observe(kvlock.Event{Kind: kvlock.Overtaken, Owner: l.grant.Owner(), Phase: adopted.Record.Phase, Epoch: adopted.Record.Epoch, Err: err})
		return fmt.Errorf("%w: %w", saga.ErrFenced, err)
	case errors.Is(err, kvlock.ErrEnded), errors.Is(err, kvlock.ErrNotFound), errors.Is(err, kvlock.ErrEra), errors.Is(err, kvlock.ErrBehind):
		return fmt.Errorf("%w: %w", saga.ErrFenced, err)
	case errors.Is(err, kvlock.ErrTooLarge), errors.Is(err, kvtx.ErrTooLarge), errors.Is(err, kvtx.ErrInvalid):
		return &saga.RefusedError{Err: saga.Permanent(err)} // what the step staged, or its state, can never be committed
	}
	return fmt.Errorf("operation %s: %w", l.grant.Owner(), err)
}

// writeError is what a staged write refused with.
type writeError struct{ err error }

func (w *writeError) Error() string { return w.err.Error() }
func (w *writeError) Unwrap() error { return w.err }

// result is the error as the result of the step: one that no repetition can heal is permanent.
func (w *writeError) result() error {
	if errors.Is(w.err, kvtx.ErrInvalid) || errors.Is(w.err, kvtx.ErrTooLarge) {
		return saga.Permanent(w.err)
	}
	return w.err
}

// appending is one Append under way. The store may still run stage when Append has given up: so it changes
// nothing but found.
type appending struct {
	locker  *kvlock.Locker
	grant   kvlock.Grant
	phase   kvlock.Phase
	end     bool
	heed    bool
	payload []byte
	staged  staged

	found atomic.Pointer[kvlock.Record] // by the last run of stage: the record as staged, or as it stands
}

func (l *Log) newAppend(e saga.Entry) (*appending, error) {
	a := &appending{locker: l.locker, grant: l.grant, end: e.Phase.Ended(), heed: e.Heed}
	var err error
	if a.phase, err = phaseOf(e.Phase); err != nil {
		return nil, err
	}
	p := l.p
	p.Run = e.Record
	if a.payload, err = p.encode(); err != nil {
		return nil, err
	}
	if a.staged, err = writesOf(e.Writes); err != nil {
		return nil, err
	}
	return a, nil
}

// staged is what a step staged: functions, and keys that they read.
type staged struct {
	writes []Write
	keys   []string
}

func writesOf(writes []saga.Write) (staged, error) {
	st := staged{writes: make([]Write, len(writes))}
	for i, w := range writes {
		switch f := w.(type) {
		case Write:
			st.writes[i] = f
		case func(kvtx.Snapshot, *kvtx.Tx) error:
			st.writes[i] = f
		case Keyed:
			st.writes[i] = f.Write
			st.keys = append(st.keys, f.Keys...)
		}
		if st.writes[i] == nil {
			return staged{}, &saga.RefusedError{Err: saga.Permanent(fmt.Errorf("a staged %T; this journal takes sagakv.Write", w))}
		}
	}
	return st, nil
}

func (a *appending) keys() []string {
	if a.end {
		return append(a.locker.Keys(a.grant.Owner(), a.grant.Claims()...), a.staged.keys...)
	}
	return append(a.locker.Keys(a.grant.Owner()), a.staged.keys...)
}

// stage is run by the store, perhaps several times. In a run in which a key was not at hand, the store ignores
// what it returns, reads the key, and runs it again.
func (a *appending) stage(s kvtx.Snapshot, tx *kvtx.Tx) error {
	err := a.save(s, tx)
	rec, readErr := a.read(s) // with what was staged just now
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	a.found.Store(&rec)
	if err != nil {
		return err
	}
	if a.heed && rec.Cancel != nil {
		return errHeed
	}
	if err := a.staged.run(s, tx); err != nil {
		return err
	}
	tx.Prove(decideAnew)
	return nil
}

func (a *appending) read(s kvtx.Snapshot) (kvlock.Record, error) {
	entry, err := s.Get(kvlock.OwnerKey(a.grant.Owner()))
	if err != nil {
		return kvlock.Record{}, err
	}
	return kvlock.DecodeRecord(entry)
}

// save stages the owner record, first of all: consumers may see a prefix of the commit.
func (a *appending) save(s kvtx.Snapshot, tx *kvtx.Tx) error {
	if a.end {
		return a.locker.StageEnd(s, tx, a.grant, a.phase, a.payload)
	}
	return a.locker.StageSave(s, tx, a.grant, a.phase, a.payload)
}

// decideAnew says of a write whose answer was lost, and whose record another one has written since, that it did
// not apply: then stage runs again on that record and finds out by its position (kvlock.ErrApplied), so that
// the news in it, such as a cancel request, is taken in.
func decideAnew(kvtx.Entry) bool { return false }

// run stages what the step staged. A read that fails in it is no refusal: the store reads the key and runs it
// again, or says itself why it cannot.
func (st staged) run(s kvtx.Snapshot, tx *kvtx.Tx) error {
	for _, w := range st.writes {
		if err := w(s, tx); err != nil {
			return &writeError{err: err}
		}
	}
	return nil
}
