package kvlock

import (
	"errors"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func TestALockRecordWithALineIsKeptWhenItsLastHolderGoes(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := New(store)
	ends := map[string]func(g Grant) error{
		"released": func(g Grant) error { return l.Release(t.Context(), g) },
		"ended":    func(g Grant) error { return l.End(t.Context(), g, Undone, nil) },
		"broken":   func(g Grant) error { return l.Break(t.Context(), g.Owner(), "test", NothingFenced) },
	}
	for name, end := range ends {
		g, err := l.TryAcquire(t.Context(), name, nil, Exclusive(name))
		if err != nil {
			t.Fatal(err)
		}
		waiter := Waiter{Owner: "waiter", Mode: ModeExclusive, Since: at(0), Deadline: at(30)}
		_, err = store.Update(t.Context(), l.Keys(name, Exclusive(name)), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			lock, err := readLock(s, name)
			if err != nil {
				return err
			}
			lock.Line = append(lock.Line, waiter)
			return lock.stage(tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := end(g); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lock, err := l.Holders(t.Context(), name)
		if err != nil || lock.Mode != ModeNone || len(lock.Holders) > 0 || len(lock.Line) != 1 || lock.Line[0] != waiter {
			t.Errorf("%s: lock = %+v, %v, want nobody to hold it and the waiter in its line", name, lock, err)
		}
		_, err = l.TryAcquire(t.Context(), name+"-2", nil, Shared(name))
		var conflict *ConflictError
		if !errors.As(err, &conflict) || len(conflict.Conflicts) != 1 || *conflict.Conflicts[0].Waiter != waiter {
			t.Errorf("%s: a newcomer: error %v, want a conflict with the waiter", name, err)
		}
	}
}

// A queued operation is written here by hand: it waits in its lines and holds nothing.
func TestAQueuedOperationIsNeitherTakenOverNorBrokenNorUnsound(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := New(store)
	claims := []Claim{Exclusive("a"), Shared("b")}
	_, err := store.Update(t.Context(), l.Keys("op-1", claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		rec := Record{Owner: "op-1", Claims: claims, Phase: Queued, Era: 1, Since: at(0)}
		if err := rec.stage(tx); err != nil {
			return err
		}
		for _, c := range claims {
			lock := Lock{Key: c.Key, Line: []Waiter{{Owner: "op-1", Mode: c.Mode, Since: at(0)}}}
			if err := lock.stage(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, rec, err := l.Adopt(t.Context(), "op-1", "w", "d")
	if !errors.Is(err, ErrQueued) || rec.Phase != Queued {
		t.Errorf("Adopt: %s, error %v, want %v", rec.Phase, err, ErrQueued)
	}
	if _, err := l.Cancel(t.Context(), "op-1", "user"); !errors.Is(err, ErrQueued) {
		t.Errorf("Cancel: error %v, want %v", err, ErrQueued)
	}
	if err := l.Break(t.Context(), "op-1", "test", NothingFenced); !errors.Is(err, ErrQueued) {
		t.Errorf("Break: error %v, want %v", err, ErrQueued)
	}
	if problems, err := l.Verify(t.Context()); err != nil || len(problems) > 0 {
		t.Errorf("Verify = %v, %v, want no problem", problems, err)
	}
	for lock, err := range l.Locks(t.Context()) {
		if err != nil || len(lock.Holders) > 0 || len(lock.Line) != 1 {
			t.Errorf("lock %+v, %v, want one waiter and no holder", lock, err)
		}
	}
}

// Readers that one commit lets in stand among the holders in the order of their line, though the later one is found first, in the line
// of another key: who was there first may matter to what they do.
func TestThoseWhoAreLetInTogetherStandInTheOrderOfTheLine(t *testing.T) {
	t.Parallel()
	l := New(natstest.Start(t).Store(t))
	g, err := l.TryAcquire(t.Context(), "holder", nil, Exclusive("a"), Exclusive("b"), Exclusive("c"))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []struct {
		owner string
		own   string
	}{{"first", "b"}, {"second", "a"}} {
		if _, err := l.Queue(t.Context(), w.owner, nil, Wait{}, Exclusive(w.own), Shared("c")); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	lock, err := l.Holders(t.Context(), "c")
	if err != nil || len(lock.Holders) != 2 || lock.Holders[0].Owner != "first" || lock.Holders[1].Owner != "second" {
		t.Errorf("holders %+v, %v; want first and second", lock.Holders, err)
	}
}
