package saga

import (
	"context"
	"iter"
	"time"
)

// Journal keeps the record of each run. Package sagatest has a conformance suite for implementations.
type Journal interface {
	// Begin makes a run from its first entry. ErrExists if there is one of this ID, ended or not.
	Begin(ctx context.Context, id ID, first Entry) error

	// TakeOver makes the caller the worker of the run: the epoch and the fence rise, and every older Log of
	// the run answers ErrFenced from then on. ErrNotFound, ErrEnded, ErrStuck.
	TakeOver(ctx context.Context, id ID) (Log, error)

	// Load reads a run without touching it. ErrNotFound.
	Load(ctx context.Context, id ID) (Head, error)

	// Cancel leaves a cancel request in the run; the worker finds it at its next write. A second request
	// changes nothing. ErrNotFound, ErrEnded.
	Cancel(ctx context.Context, id ID, who string) error

	// Resume replaces the record of a stuck run by what next makes of it, and lets the run be taken over again.
	// next is pure and may be called several times: see Resumed. ErrNotFound, ErrEnded, ErrNotStuck.
	Resume(ctx context.Context, id ID, who string, next func(rec []byte) (Entry, error)) error

	// Open lists the runs that have not ended, stuck ones included.
	Open(ctx context.Context) iter.Seq2[ID, error]
}

// Log is one worker's hold of one run. It is used by one goroutine.
type Log interface {
	ID() ID
	Epoch() uint64
	Fence() Fence

	// Head is the run as of the take-over or the last Append, whichever is later. No I/O.
	Head() Head

	// Append replaces the record and commits the staged writes with it, or does nothing at all. It resolves
	// lost answers itself: when it returns nil or RefusedError or ErrCanceled, what happened is certain.
	//
	// ErrFenced if somebody took over. *RefusedError if a staged write refused. ErrCanceled if the entry heeds
	// and a cancel request stands in the run: Head then carries it. Any other error leaves the outcome open, and
	// the Log is of no more use.
	//
	// A cancel request that came in between does not fail an entry that does not heed: it is kept, and Head
	// carries it afterwards.
	Append(ctx context.Context, e Entry) error
}

// Entry is one journal write.
type Entry struct {
	Record []byte  // the folded record, opaque to the journal
	Phase  Phase   // that of the record; the journal may index it, and ends the run with an ended one
	Writes []Write // committed with it
	Heed   bool    // refuse with ErrCanceled if a cancel request stands in the run
}

// Head is a run as its journal has it.
type Head struct {
	Record []byte         // nil: nothing was journalled yet
	Cancel *CancelRequest // nil: nobody asked
	Epoch  uint64         // take-overs so far
}

// Status reads the run's status.
func (h Head) Status() (Status, error) {
	r := record{Phase: Running, Epoch: firstEpoch}
	if len(h.Record) > 0 {
		var err error
		if r, err = decodeRecord(h.Record); err != nil {
			return Status{}, err
		}
	}
	r.lose(h.Epoch)
	st := r.status()
	if len(h.Record) == 0 {
		st.Phase = Pending
	}
	st.Cancel = h.Cancel
	return st, nil
}

// CancelRequest says who asked to cancel a run, and when.
type CancelRequest struct {
	Who string
	At  time.Time
}
