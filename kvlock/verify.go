package kvlock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// Problem is one difference between lock records and owner records: a corruption, which no history of these verbs
// makes.
type Problem struct {
	Key   string // claimed; "" if an owner record cannot be read
	Owner string // "" if a lock record cannot be read
	Text  string
}

// String returns the problem as a person reads it.
func (p Problem) String() string {
	switch {
	case p.Key == "":
		return fmt.Sprintf("operation %s: %s", p.Owner, p.Text)
	case p.Owner == "":
		return fmt.Sprintf("key %s: %s", p.Key, p.Text)
	}
	return fmt.Sprintf("key %s, operation %s: %s", p.Key, p.Owner, p.Text)
}

// pair is an operation and a key that have to do with each other.
type pair struct{ owner, key string }

// Verify compares all lock records with all owner records: each entry belongs to a live operation that claims the key in
// that mode, and each live operation has all its entries. It may run at any time: what looks wrong is looked at again
// until the records stood still. It changes nothing. The problems are sorted by key and owner. An error says that the records could not be read.
func (l *Locker) Verify(ctx context.Context) ([]Problem, error) {
	var problems []Problem
	locks, records := map[string]Lock{}, map[string]Record{}
	for lock, err := range l.Locks(ctx) {
		switch {
		case errors.Is(err, ErrBroken), errors.Is(err, ErrNewer):
			problems = append(problems, Problem{Key: lock.Key, Text: err.Error()})
		case err != nil:
			return nil, err
		default:
			locks[lock.Key] = lock
		}
	}
	for rec, err := range l.Records(ctx) {
		switch {
		case errors.Is(err, ErrBroken), errors.Is(err, ErrNewer):
			problems = append(problems, Problem{Owner: rec.Owner, Text: err.Error()})
		case err != nil:
			return nil, err
		default:
			records[rec.Owner] = rec
		}
	}
	for _, p := range suspects(locks, records) {
		text, err := l.lookAgain(ctx, p)
		if err != nil {
			return nil, err
		}
		if text != "" {
			problems = append(problems, Problem{Key: p.key, Owner: p.owner, Text: text})
		}
	}
	slices.SortFunc(problems, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Owner, b.Owner)) })
	return problems, nil
}

// suspects returns the pairs that do not fit in two pictures of different moments, each once.
func suspects(locks map[string]Lock, records map[string]Record) []pair {
	var found []pair
	seen := map[pair]bool{}
	look := func(owner, key string) {
		p := pair{owner, key}
		if seen[p] {
			return
		}
		seen[p] = true
		if fits(records[owner], locks[key], p) != "" {
			found = append(found, p)
		}
	}
	for key, lock := range locks {
		for _, h := range lock.Holders {
			look(h.Owner, key)
		}
		for _, w := range lock.Line {
			look(w.Owner, key)
		}
	}
	for owner, rec := range records {
		for _, c := range rec.Claims {
			look(owner, c.Key)
		}
	}
	return found
}

// lookAgain reads the pair until the owner record stood still around the read of the lock, and says what is wrong.
func (l *Locker) lookAgain(ctx context.Context, p pair) (string, error) {
	rec, err := l.Record(ctx, p.owner)
	for {
		if err != nil && !errors.Is(err, ErrNotFound) {
			return "", ignoreUnreadable(err)
		}
		lock, err := l.Holders(ctx, p.key)
		if err != nil {
			return "", ignoreUnreadable(err)
		}
		var again Record
		again, err = l.Record(ctx, p.owner)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return "", ignoreUnreadable(err)
		}
		if again.Revision == rec.Revision {
			return fits(again, lock, p), nil
		}
		rec = again
	}
}

// ignoreUnreadable drops what was told as a problem of the record itself.
func ignoreUnreadable(err error) error {
	if errors.Is(err, ErrBroken) || errors.Is(err, ErrNewer) || errors.Is(err, ErrInvalid) {
		return nil
	}
	return err
}

// fits says in words what is wrong with an operation's record (zero if it has none) and a key's lock; "" if nothing.
func fits(rec Record, lock Lock, p pair) string {
	mode, waits := ModeNone, ModeNone
	if lock.Holds(p.owner) {
		mode = lock.Mode
	}
	for _, w := range lock.Line {
		if w.Owner == p.owner {
			waits = w.Mode
		}
	}
	want, wantWait := ModeNone, ModeNone
	for _, c := range rec.Claims {
		switch {
		case c.Key != p.key || !rec.Live():
		case rec.Phase == Queued:
			wantWait = c.Mode
		default:
			want = c.Mode
		}
	}
	switch {
	case mode == want && waits == wantWait:
		return ""
	case rec.Owner == "":
		return "the lock names an operation that has no record"
	case !rec.Live():
		return "the lock names an operation that has ended, " + rec.Phase.String()
	}
	return fmt.Sprintf("the operation, %s, claims it %s; the lock says held: %s, waited for: %s",
		rec.Phase, max(want, wantWait), mode, waits)
}
