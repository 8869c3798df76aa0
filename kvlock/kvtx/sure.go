package kvtx

import (
	"errors"
	"slices"
)

// Sure marks an error with which an [Store.Update] function says that entries do not fit together. They are read one after another, so
// those that do not fit may be of two moments, and nothing of it true. Such an error is returned only when the function comes to one
// again after all that it read was read once more and had stood still meanwhile: then it was like that at one moment. And it is on the
// server's disk: so it marks, too, what says that something was done before.
func Sure(err error) error { return &sureError{err} }

type sureError struct{ error }

func (e *sureError) Unwrap() error { return e.error }

func isSure(err error) bool {
	_, ok := errors.AsType[*sureError](err)
	return ok
}

// look is what a function had read when it came to an error that must be sure.
type look struct {
	at    uint64 // Of the store's clock, after all of it was read; 0: there was none.
	reads []Entry
}

// doubtful says whether an error that must be sure is not yet, and takes note of what it rests on.
func (s *snapshot) doubtful(err error) bool {
	if !isSure(err) {
		return false
	}
	before := s.m.look
	s.m.look = look{at: s.group.store.clock.Add(1), reads: s.reads}
	return before.at == 0 || len(s.pending) > 0 || s.oldest < before.at || !slices.EqualFunc(before.reads, s.reads, same)
}

// verdict is what a function came to that writes nothing.
type verdict struct {
	given bool
	err   error // nil: there is nothing to do.
}

// prove makes a commit of what a function came to that writes nothing, on a replicated stream: one that checks all that it read. A server that
// led the stream, was deposed, and does not know it yet answers reads, but makes no commit.
func (s *snapshot) prove(o *outcome) bool {
	if !s.group.store.replicated() || len(s.stale) > 0 || len(s.reads) == 0 || len(s.reads) > MaxMessages {
		return false
	}
	s.m.verdict = verdict{given: true, err: o.err}
	s.m.tx, o.err = &Tx{}, nil
	for i := range s.reads {
		s.m.tx.Check(s.reads[i].Key, s.reads[i].Revision)
	}
	return true
}

// replicated says whether a read may be answered by a server that was deposed.
func (s *Store) replicated() bool { return s.cfg.Replicas > 1 }

// same says whether two runs of a function have read the same.
func same(a, b Entry) bool { return a.Key == b.Key && a.Revision == b.Revision && a.Exists == b.Exists }
