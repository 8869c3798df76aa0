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

// same says whether two runs of a function have read the same.
func same(a, b Entry) bool { return a.Key == b.Key && a.Revision == b.Revision && a.Exists == b.Exists }
