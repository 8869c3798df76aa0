package kvtx_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TestSnapshotShowsWhatIsStaged: two users of one transaction see each other's writes.
func TestSnapshotShowsWhatIsStaged(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0) })
	keys := []string{"k.a"}
	_, err := s.Update(ctx(t), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		return errors.Join(incrementAll(snap, tx, keys), incrementAll(snap, tx, keys), incrementAll(snap, tx, keys))
	})
	if e := get(t, s, "k.a"); err != nil || number(e) != 4 || e.Revision <= r.Revision("k.a") {
		t.Errorf("k.a = %s, %v; want 4", e.Value, err)
	}
}

func TestCheckHoldsWithoutWriting(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0); tx.Put("k.b", []byte("1"), 0) })
	commit(t, s, func(tx *kvtx.Tx) {
		tx.Check("k.a", r.Revision("k.a"))
		tx.Check("k.absent", 0)
		tx.Put("k.c", []byte("1"), 0)
	})
	commit(t, s, func(tx *kvtx.Tx) { tx.Check("k.a", r.Revision("k.a")) }) // Proves that it stands.
	if e := get(t, s, "k.a"); e.Revision != r.Revision("k.a") {
		t.Error("a check has written its key")
	}
	commit(t, s, func(tx *kvtx.Tx) { tx.Delete("k.b", r.Revision("k.b")) })
	commit(t, s, func(tx *kvtx.Tx) { tx.Check("k.b", 0); tx.Put("k.d", nil, 0) }) // A marker is absent.
	for _, stage := range []func(*kvtx.Tx){
		func(tx *kvtx.Tx) { tx.Check("k.a", 0) },
		func(tx *kvtx.Tx) { tx.Check("k.a", r.Revision("k.a")-1) },
		func(tx *kvtx.Tx) { tx.Check("k.b", r.Revision("k.b")) },
	} {
		var tx kvtx.Tx
		stage(&tx)
		tx.Put("k.e", nil, 0)
		if _, err := s.Commit(ctx(t), &tx); !errors.Is(err, kvtx.ErrConflict) {
			t.Errorf("Commit with a check that does not hold = %v, want ErrConflict", err)
		}
	}
	if e := get(t, s, "k.e"); e.Exists {
		t.Error("a refused commit has written")
	}
	// A check of a key that the commit writes is the write's expectation.
	commit(t, s, func(tx *kvtx.Tx) {
		tx.Check("k.a", r.Revision("k.a"))
		tx.Put("k.a", []byte("2"), r.Revision("k.a"))
		tx.Check("k.a", r.Revision("k.a"))
	})
}

func TestMistakesAreRefusedBeforeTheyAreSent(t *testing.T) {
	t.Parallel()
	var f faults
	s := newStore(t, f.option())
	for name, c := range map[string]struct {
		stage func(*kvtx.Tx)
		want  error
	}{
		"wildcard in a key":     {func(tx *kvtx.Tx) { tx.Put("a.*", nil, 0) }, kvtx.ErrInvalid},
		"empty key":             {func(tx *kvtx.Tx) { tx.Put("", nil, 0) }, kvtx.ErrInvalid},
		"empty token":           {func(tx *kvtx.Tx) { tx.Check("a..b", 0) }, kvtx.ErrInvalid},
		"key with a space":      {func(tx *kvtx.Tx) { tx.Delete("a b", 1) }, kvtx.ErrInvalid},
		"delete of nothing":     {func(tx *kvtx.Tx) { tx.Delete("a", 0) }, kvtx.ErrInvalid},
		"two expectations":      {func(tx *kvtx.Tx) { tx.Put("a", nil, 1); tx.Put("a", nil, 2) }, kvtx.ErrInvalid},
		"other check":           {func(tx *kvtx.Tx) { tx.Put("a", nil, 1); tx.Check("a", 2) }, kvtx.ErrInvalid},
		"short life":            {func(tx *kvtx.Tx) { tx.PutTTL("a", nil, 0, 1) }, kvtx.ErrInvalid},
		"foreign subject":       {func(tx *kvtx.Tx) { tx.Publish("op.other.req", nil, nil) }, kvtx.ErrInvalid},
		"wildcard in a subject": {func(tx *kvtx.Tx) { tx.Publish(s.DispatchSubject("req", "*"), nil, nil) }, kvtx.ErrInvalid},
		"header of the server": {func(tx *kvtx.Tx) {
			tx.Publish(s.DispatchSubject("r"), nil, map[string][]string{"Nats-Batch-Id": {"x"}})
		}, kvtx.ErrInvalid},
		"message too large":       {func(tx *kvtx.Tx) { tx.Put("a", make([]byte, 1<<20), 0) }, kvtx.ErrTooLarge},
		"commit too large":        {func(tx *kvtx.Tx) { puts(tx, 9, 500_000) }, kvtx.ErrTooLarge},
		"commit of many messages": {func(tx *kvtx.Tx) { puts(tx, kvtx.MaxMessages+1, 0) }, kvtx.ErrTooLarge},
	} {
		var tx kvtx.Tx
		c.stage(&tx)
		if _, err := s.Commit(ctx(t), &tx); !errors.Is(err, c.want) {
			t.Errorf("%s: Commit = %v, want %v", name, err, c.want)
		}
	}
	if f.seen(kvtx.Write)+f.seen(kvtx.Batch) != 0 {
		t.Error("something was sent")
	}
	commit(t, s, func(tx *kvtx.Tx) { puts(tx, kvtx.MaxMessages, 100) })
	commit(t, s, func(tx *kvtx.Tx) { puts(tx, 8, 500_000) })
}

func puts(tx *kvtx.Tx, n, size int) {
	for i := range n {
		tx.Put(fmt.Sprintf("many.%d.%d", size, i), make([]byte, size), 0)
	}
}

// TestThenIsCalledOnceTheCommitIsMade: once, however often its function ran, and never for what was not written.
func TestThenIsCalledOnceTheCommitIsMade(t *testing.T) {
	t.Parallel()
	url := serve(t).ClientURL()
	s, other := open(t, url), open(t, url)
	r := commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0) })
	get(t, other, "k.a")
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("2"), r.Revision("k.a")) })
	runs, calls := 0, 0
	_, err := other.Update(ctx(t), []string{"k.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { // it remembers the first revision
		runs++
		tx.Then(func() { calls++ })
		return incrementAll(snap, tx, []string{"k.a"})
	})
	if err != nil || calls != 1 || runs < 2 {
		t.Errorf("after %d runs called %d times, %v; want at least two runs and one call", runs, calls, err)
	}
	never := func(tx *kvtx.Tx) { tx.Then(func() { t.Error("called although nothing was written") }) }
	if _, err := s.Update(ctx(t), nil, func(_ kvtx.Snapshot, tx *kvtx.Tx) error { never(tx); return nil }); err != nil {
		t.Error(err)
	}
	refusal := errors.New("no")
	if _, err := s.Update(ctx(t), nil, func(_ kvtx.Snapshot, tx *kvtx.Tx) error {
		never(tx)
		tx.Put("k.b", nil, 0)
		return refusal
	}); !errors.Is(err, refusal) {
		t.Error(err)
	}
	var late kvtx.Tx
	never(&late)
	late.Put("k.a", nil, r.Revision("k.a"))
	if _, err := s.Commit(ctx(t), &late); !errors.Is(err, kvtx.ErrConflict) {
		t.Error(err)
	}
}
