package kvtx_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

var errDiffer = errors.New("the two records differ")

// equal refuses unless two records are equal.
func equal(s kvtx.Snapshot) error {
	a, errA := s.Get("k.a")
	b, errB := s.Get("k.b")
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if string(a.Value) != string(b.Value) {
		return kvtx.Sure(fmt.Errorf("%w: %q and %q", errDiffer, a.Value, b.Value))
	}
	return nil
}

// TestASureErrorIsOfOneMoment: two records that are always equal are read as they are at two moments.
func TestASureErrorIsOfOneMoment(t *testing.T) {
	t.Parallel()
	url := serve(t).ClientURL()
	other := open(t, url)
	both := func(value string) {
		if _, err := other.Update(context.Background(), []string{"k.a", "k.b"}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			for _, key := range []string{"k.a", "k.b"} {
				e, err := s.Get(key)
				if err != nil {
					return err
				}
				tx.Put(key, []byte(value), e.Revision)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	both("1")
	var changes atomic.Int32
	read := make(chan struct{}, 10)
	s := open(t, url, kvtx.WithCacheBytes(0), kvtx.WithInterceptor(func(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
		switch {
		case call.Kind != kvtx.Read || changes.Load() == 3:
		case call.Keys[0] == "k.a":
			err := next(ctx)
			read <- struct{}{}
			return err
		case call.Keys[0] == "k.b":
			<-read
			both(fmt.Sprint("changed ", changes.Add(1)))
		}
		return next(ctx)
	}))
	if _, err := s.Update(ctx(t), []string{"k.a", "k.b"}, func(s kvtx.Snapshot, _ *kvtx.Tx) error { return equal(s) }); err != nil {
		t.Errorf("Update = %v: it was never like that", err)
	}
	if changes.Load() != 3 {
		t.Error("nothing changed between the two reads: the test is blind")
	}
	// What is so is told.
	commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.b", []byte("other"), get(t, other, "k.b").Revision) })
	if _, err := s.Update(ctx(t), nil, func(s kvtx.Snapshot, _ *kvtx.Tx) error { return equal(s) }); !errors.Is(err, errDiffer) {
		t.Errorf("Update = %v, want %v", err, errDiffer)
	}
}

// TestASureErrorThatRestsOnNothingIsTold: a function that has read nothing comes to it again, and that is all that there is to look at.
func TestASureErrorThatRestsOnNothingIsTold(t *testing.T) {
	t.Parallel()
	runs := 0
	_, err := newStore(t).Update(ctx(t), nil, func(kvtx.Snapshot, *kvtx.Tx) error { runs++; return kvtx.Sure(errDiffer) })
	if !errors.Is(err, errDiffer) || runs != 2 {
		t.Errorf("Update = %v after %d runs, want %v after 2", err, runs, errDiffer)
	}
}

// TestWhatIsStagedOnOldEntriesIsDecidedAnew: a function that stages what cannot be, because of what this process remembers, runs again.
func TestWhatIsStagedOnOldEntriesIsDecidedAnew(t *testing.T) {
	t.Parallel()
	url := serve(t).ClientURL()
	s, other := open(t, url), open(t, url)
	if get(t, s, "k.a").Exists {
		t.Fatal("k.a exists")
	}
	commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0) })
	if _, err := s.Update(ctx(t), []string{"k.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := snap.Get("k.a")
		if err == nil {
			tx.Delete("k.a", e.Revision)
		}
		return err
	}); err != nil {
		t.Errorf("Update = %v: k.a is there", err)
	}
	if get(t, other, "k.a").Exists {
		t.Error("k.a was not deleted")
	}
}

// TestABatchWhoseReceiptHadExpiredIsDecided: the answer to the first batch after a long pause is lost.
func TestABatchWhoseReceiptHadExpiredIsDecided(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]int{"request lost": 1, "both lost": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f faults
			s := newStore(t, f.option())
			commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0); tx.Put("k.b", []byte("1"), 0) })
			if err := s.Stream().Purge(ctx(t), purgeSubject(s.Subject("rcpt.*"))); err != nil { // as its end of life does
				t.Fatal(err)
			}
			f.set(kvtx.Batch, before, 0)
			if _, err := s.Update(ctx(t), []string{"k.a", "k.b"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
				return incrementAll(snap, tx, []string{"k.a", "k.b"})
			}); err != nil {
				t.Errorf("Update = %v", err)
			}
			f.mustHaveMet(t, before)
			if n := number(get(t, s, "k.b")); n != 2 {
				t.Errorf("k.b = %d, want 2", n)
			}
		})
	}
}
