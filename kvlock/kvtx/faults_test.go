package kvtx_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

var errFault = errors.New("fault of the test")

// faults loses requests or answers of a store.
type faults struct {
	mu     sync.Mutex
	kind   kvtx.Kind // What is lost.
	before int       // So many requests are lost,
	after  int       // and then so many answers.
	met    int
	then   func() // Called when an answer is lost, before anything else happens.
	calls  map[kvtx.Kind]int
}

func (f *faults) option() kvtx.Option { return kvtx.WithInterceptor(f.intercept) }

func (f *faults) intercept(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[kvtx.Kind]int{}
	}
	f.calls[call.Kind]++
	lose, drop := false, false
	if call.Kind == f.kind {
		switch {
		case f.before > 0:
			f.before, lose = f.before-1, true
		case f.after > 0:
			f.after, drop = f.after-1, true
		}
	}
	then := f.then
	f.mu.Unlock()
	if lose {
		f.count()
		return errFault
	}
	err := next(ctx)
	if drop {
		f.count()
		if then != nil {
			then()
		}
		return errFault
	}
	return err
}

func (f *faults) count() {
	f.mu.Lock()
	f.met++
	f.mu.Unlock()
}

func (f *faults) set(kind kvtx.Kind, before, after int) {
	f.mu.Lock()
	f.kind, f.before, f.after, f.met = kind, before, after, 0
	f.mu.Unlock()
}

func (f *faults) mustHaveMet(t *testing.T, n int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.met != n {
		t.Errorf("%d faults were met, want %d", f.met, n)
	}
}

func (f *faults) seen(kind kvtx.Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[kind]
}

// TestLostReplyIsDecided loses requests and answers of single writes and of batches: each commit applies exactly once, and its result has
// the revisions that stand in the stream.
func TestLostReplyIsDecided(t *testing.T) {
	t.Parallel()
	for _, kind := range []kvtx.Kind{kvtx.Write, kvtx.Batch} {
		for _, c := range []struct {
			name          string
			before, after int
		}{
			{"not applied", 1, 0}, {"applied", 0, 1}, {"both", 2, 1}, {"applied, and the second answer lost too", 0, 2},
		} {
			t.Run(fmt.Sprintf("%v %s", kind, c.name), func(t *testing.T) {
				t.Parallel()
				var f faults
				s := newStore(t, f.option())
				keys := []string{"k.a"}
				if kind == kvtx.Batch {
					keys = []string{"k.a", "k.b", "k.c"}
				}
				var last []kvtx.Revision
				for round := range 3 {
					f.set(kind, c.before, c.after)
					r, err := s.Update(ctx(t), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, keys) })
					if err != nil {
						t.Fatal(err)
					}
					f.mustHaveMet(t, c.before+c.after)
					last = last[:0]
					for _, key := range keys {
						e := get(t, s, key)
						if number(e) != round+1 || e.Revision != r.Revision(key) {
							t.Errorf("round %d: %s = %s at %d, want %d at %d", round, key, e.Value, e.Revision, round+1, r.Revision(key))
						}
						last = append(last, e.Revision)
					}
				}
				if !slices.IsSorted(last) {
					t.Errorf("revisions %v are not in the order of the commit", last)
				}
			})
		}
	}
}

func incrementAll(snap kvtx.Snapshot, tx *kvtx.Tx, keys []string) error {
	for _, key := range keys {
		e, err := snap.Get(key)
		if err != nil {
			return err
		}
		tx.Put(key, []byte(strconv.Itoa(number(e)+1)), e.Revision)
	}
	return nil
}

func number(e kvtx.Entry) int {
	n, _ := strconv.Atoi(string(e.Value))
	return n
}

// TestLostReplyOfRefusedCommitIsAConflict: the first copy was refused, or never arrived, because another writer was faster.
func TestLostReplyOfRefusedCommitIsAConflict(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{{"k.a"}, {"k.a", "k.b"}} {
		t.Run(fmt.Sprint(len(keys)), func(t *testing.T) {
			t.Parallel()
			var f faults
			srv := serve(t)
			s, other := open(t, srv.ClientURL(), f.option()), open(t, srv.ClientURL())
			kind := kvtx.Write
			if len(keys) > 1 {
				kind = kvtx.Batch
			}
			r := commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("first"), 0) })
			var tx kvtx.Tx
			for _, key := range keys {
				tx.Put(key, []byte("mine"), map[string]kvtx.Revision{"k.a": r.Revision("k.a")}[key])
			}
			commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("other"), r.Revision("k.a")) })
			f.set(kind, 1, 0)
			_, err := s.Commit(ctx(t), &tx)
			var conflict *kvtx.ConflictError
			if !errors.As(err, &conflict) || !slices.Equal(conflict.Keys, []string{"k.a"}) {
				t.Errorf("Commit = %v, want a conflict on k.a", err)
			}
			f.mustHaveMet(t, 1)
			if e := get(t, other, "k.a"); string(e.Value) != "other" {
				t.Errorf("k.a = %s, want other", e.Value)
			}
			if e := get(t, other, "k.b"); e.Exists {
				t.Error("k.b exists after a refused commit")
			}
		})
	}
}

// TestLostReplyOfOverwrittenWrite: the write applied, its answer was lost, and another writer replaced it before it could be looked at.
func TestLostReplyOfOverwrittenWrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		prove func(kvtx.Entry) bool
		want  error
	}{
		{"proved by what follows from it", func(e kvtx.Entry) bool { return string(e.Value) == "mine, other" }, nil},
		{"disproved", func(kvtx.Entry) bool { return false }, kvtx.ErrConflict},
		{"no proof", nil, kvtx.ErrInDoubt},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var f faults
			srv := serve(t)
			s, other := open(t, srv.ClientURL(), f.option()), open(t, srv.ClientURL())
			f.then = func() {
				var tx kvtx.Tx
				tx.Put("k.a", []byte("mine, other"), get(t, other, "k.a").Revision)
				if _, err := other.Commit(context.Background(), &tx); err != nil {
					t.Error(err)
				}
			}
			f.set(kvtx.Write, 0, 1)
			var tx kvtx.Tx
			tx.Put("k.a", []byte("mine"), 0)
			if c.prove != nil {
				tx.Prove(c.prove)
			}
			if _, err := s.Commit(ctx(t), &tx); !errors.Is(err, c.want) {
				t.Errorf("Commit = %v, want %v", err, c.want)
			}
			f.mustHaveMet(t, 1)
		})
	}
}

// TestProvedWriteIsNotTakenForWhatReplacedIt: the write applied, its answer was lost, and what another writer made of it stands there. The
// next commit of this process builds on that, not on its own value at the other one's revision: the other one's change would be lost.
func TestProvedWriteIsNotTakenForWhatReplacedIt(t *testing.T) {
	t.Parallel()
	var f faults
	srv := serve(t)
	s, other := open(t, srv.ClientURL(), f.option()), open(t, srv.ClientURL())
	f.then = func() {
		var tx kvtx.Tx
		tx.Put("k.a", []byte("mine, other"), get(t, other, "k.a").Revision)
		if _, err := other.Commit(context.Background(), &tx); err != nil {
			t.Error(err)
		}
	}
	f.set(kvtx.Write, 0, 1)
	var tx kvtx.Tx
	tx.Put("k.a", []byte("mine"), 0)
	tx.Prove(func(e kvtx.Entry) bool { return string(e.Value) == "mine, other" })
	if _, err := s.Commit(ctx(t), &tx); err != nil {
		t.Fatal(err)
	}
	f.mustHaveMet(t, 1)
	if _, err := s.Update(ctx(t), []string{"k.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := snap.Get("k.a")
		if err == nil {
			tx.Put("k.a", append(slices.Clone(e.Value), ", more"...), e.Revision)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if e := get(t, other, "k.a"); string(e.Value) != "mine, other, more" {
		t.Errorf("k.a = %q: the change of the other writer is lost", e.Value)
	}
}

// TestLateCopyCannotApplyAfterDoubtWasGivenUp keeps the first copy of a batch back until the doubt was decided, then lets it arrive.
func TestLateCopyCannotApplyAfterDoubtWasGivenUp(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	var late atomic.Pointer[func(context.Context) error]
	var met atomic.Int32
	other := open(t, srv.ClientURL())
	s := open(t, srv.ClientURL(), kvtx.WithInterceptor(func(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
		if call.Kind == kvtx.Batch && late.CompareAndSwap(nil, &next) {
			met.Add(1)
			// Another writer makes the second copy be refused.
			var tx kvtx.Tx
			tx.Put("k.a", []byte("other"), 0)
			if _, err := other.Commit(ctx, &tx); err != nil {
				t.Error(err)
			}
			return errFault
		}
		return next(ctx)
	}))
	var tx kvtx.Tx
	tx.Put("k.a", []byte("mine"), 0)
	tx.Put("k.b", []byte("mine"), 0)
	if _, err := s.Commit(ctx(t), &tx); !errors.Is(err, kvtx.ErrConflict) {
		t.Fatalf("Commit = %v, want ErrConflict", err)
	}
	if met.Load() != 1 {
		t.Fatal("no copy was kept back")
	}
	// Now nothing but the receipt stands in the way of the late copy.
	commit(t, other, func(tx *kvtx.Tx) { tx.Delete("k.a", get(t, other, "k.a").Revision) })
	if err := s.Stream().Purge(ctx(t), purgeSubject(s.Subject("k.a"))); err != nil {
		t.Fatal(err)
	}
	if e := get(t, other, "k.a"); e.Revision != 0 {
		t.Fatalf("k.a = %+v, want nothing", e)
	}
	if err := (*late.Load())(ctx(t)); err == nil {
		t.Error("the late copy was acknowledged")
	}
	for _, key := range []string{"k.a", "k.b"} {
		if e := get(t, other, key); e.Exists {
			t.Errorf("%s = %s: the late copy has applied", key, e.Value)
		}
	}
	// The committer goes on.
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.c", []byte("1"), 0); tx.Put("k.d", []byte("1"), 0) })
}

// TestCallerThatGivesUpIsToldOfDoubt: the context ends after the commit was sent.
func TestCallerThatGivesUpIsToldOfDoubt(t *testing.T) {
	t.Parallel()
	hold, sent := make(chan struct{}), make(chan struct{}, 1)
	s := newStore(t, kvtx.WithInterceptor(func(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
		if call.Kind == kvtx.Batch {
			sent <- struct{}{}
			<-hold
		}
		return next(ctx)
	}))
	cctx, cancel := context.WithCancel(ctx(t))
	go func() {
		<-sent
		cancel()
	}()
	var tx kvtx.Tx
	tx.Put("k.a", []byte("1"), 0)
	tx.Put("k.b", []byte("1"), 0)
	_, err := s.Commit(cctx, &tx)
	if !errors.Is(err, kvtx.ErrInDoubt) || !errors.Is(err, context.Canceled) {
		t.Errorf("Commit = %v, want ErrInDoubt and context.Canceled", err)
	}
	// A commit that only waits is not in doubt: it was not sent.
	done, cancel := context.WithCancel(ctx(t))
	waits := make(chan error, 1)
	go func() {
		_, err := s.Update(done, nil, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
			t.Error("the function of a caller who has left is run")
			return nil
		})
		waits <- err
	}()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) || errors.Is(err, kvtx.ErrInDoubt) {
		t.Errorf("Update = %v, want context.Canceled without doubt", err)
	}
	close(hold)
	// What was in doubt applied in the end.
	until(t, func() bool { return get(t, s, "k.b").Exists })
}
