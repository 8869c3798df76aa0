package kvtx_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// held is a store whose next batch or write is kept back until release, so that the commits that come meanwhile are one group.
type held struct {
	faults
	s     *kvtx.Store
	hold  chan struct{}
	waits chan struct{}
	once  sync.Once
}

func newHeld(t *testing.T, url string) *held {
	h := &held{hold: make(chan struct{}), waits: make(chan struct{})}
	h.s = open(t, url, kvtx.WithInterceptor(func(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
		if call.Kind != kvtx.Read {
			h.once.Do(func() {
				close(h.waits)
				<-h.hold
			})
		}
		return h.intercept(ctx, call, next)
	}))
	return h
}

// group runs the commits so that they wait at the same moment, and returns their errors. The counts of h begin with them.
func (h *held) group(t *testing.T, commits ...func() error) []error {
	t.Helper()
	var first, wg sync.WaitGroup
	first.Go(func() { commit(t, h.s, func(tx *kvtx.Tx) { tx.Put("plug", nil, 0) }) })
	<-h.waits
	errs := make([]error, len(commits))
	for i, c := range commits {
		running := make(chan struct{})
		wg.Go(func() {
			close(running)
			errs[i] = c()
		})
		<-running
		// In their order, and all before the group is built.
		n := i + 1
		until(t, func() bool { return kvtx.Waiting(h.s) >= n })
	}
	close(h.hold)
	first.Wait()
	wg.Wait()
	return errs
}

func (h *held) increment(t *testing.T, keys ...string) func() error {
	return func() error {
		_, err := h.s.Update(ctx(t), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, keys) })
		return err
	}
}

func mustAll(t *testing.T, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Errorf("commit %d: %v", i, err)
		}
	}
}

func TestGroupFoldsSharedRecord(t *testing.T) {
	t.Parallel()
	h := newHeld(t, serve(t).ClientURL())
	var commits []func() error
	for i := range 20 {
		commits = append(commits, h.increment(t, fmt.Sprintf("own.%d", i), "quota.p"))
	}
	before := state(t, h.s)
	mustAll(t, h.group(t, commits...))
	if e := get(t, h.s, "quota.p"); number(e) != 20 {
		t.Errorf("quota.p = %s, want 20", e.Value)
	}
	if n := h.seen(kvtx.Batch); n != 1 {
		t.Errorf("%d batches, want 1", n)
	}
	// The plug, 20 own records, the shared one, the receipt.
	if n := state(t, h.s) - before; n != 23 {
		t.Errorf("%d messages, want 23: the shared record is one", n)
	}
}

func state(t *testing.T, s *kvtx.Store) uint64 {
	info, err := s.Stream().Info(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.LastSeq
}

func TestRefusedMemberDoesNotTakeTheGroupDown(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	h := newHeld(t, srv.ClientURL())
	commit(t, open(t, srv.ClientURL()), func(tx *kvtx.Tx) { tx.Put("taken.a", []byte("1"), 0) })
	errFull := errors.New("full")
	errs := h.group(t,
		h.increment(t, "k.a", "quota.p"),
		func() error { // Its function refuses.
			_, err := h.s.Update(ctx(t), []string{"taken.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
				tx.Put("k.bad", nil, 0)
				return errFull
			})
			return err
		},
		func() error { // The server would refuse it: its key has moved.
			var tx kvtx.Tx
			tx.Put("taken.a", []byte("2"), 0)
			tx.Put("k.bad", nil, 0)
			_, err := h.s.Commit(ctx(t), &tx)
			return err
		},
		func() error { // It cannot be sent.
			_, err := h.s.Update(ctx(t), nil, func(_ kvtx.Snapshot, tx *kvtx.Tx) error {
				tx.Put("k.bad", make([]byte, 2<<20), 0)
				return nil
			})
			return err
		},
		func() error { // Its function ends its goroutine.
			_, err := h.s.Update(ctx(t), nil, func(kvtx.Snapshot, *kvtx.Tx) error {
				runtime.Goexit()
				return nil
			})
			return err
		},
		func() (err error) { // Its function panics.
			defer func() { err = fmt.Errorf("panic: %v", recover()) }()
			_, err = h.s.Update(ctx(t), nil, func(kvtx.Snapshot, *kvtx.Tx) error { panic("bug") })
			return err
		},
		h.increment(t, "k.b", "quota.p"),
	)
	mustAll(t, []error{errs[0], errs[6]})
	var conflict *kvtx.ConflictError
	if !errors.Is(errs[1], errFull) || !errors.As(errs[2], &conflict) || !errors.Is(errs[3], kvtx.ErrTooLarge) || errs[4] == nil || errs[5].Error() != "panic: bug" {
		t.Errorf("errors %q", errs)
	}
	if e := get(t, h.s, "quota.p"); number(e) != 2 {
		t.Errorf("quota.p = %s, want 2", e.Value)
	}
	if e := get(t, h.s, "k.bad"); e.Exists {
		t.Error("a refused commit has written")
	}
}

// TestRefusalOnUncommittedWriteWaitsForIt: the second of two creates at a limit of one is refused only once the first is durable, and not at all
// if the first one loses.
func TestRefusalOnUncommittedWriteWaitsForIt(t *testing.T) {
	t.Parallel()
	errFull := errors.New("full")
	for _, firstLoses := range []bool{false, true} {
		t.Run(strconv.FormatBool(firstLoses), func(t *testing.T) {
			t.Parallel()
			srv := serve(t)
			other := open(t, srv.ClientURL())
			h := newHeld(t, srv.ClientURL())
			create := func(id string) func() error {
				return func() error {
					_, err := h.s.Update(ctx(t), []string{"quota.p", id}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
						quota, err := snap.Get("quota.p")
						if err != nil {
							return err
						}
						volume, err := snap.Get(id)
						if err != nil {
							return err
						}
						if volume.Exists {
							return errors.New("exists")
						}
						if number(quota) >= 1 {
							if !quota.Revision.Pending() && !firstLoses && get(t, other, "volume.a").Exists == false {
								t.Error("refused before what it rests on was durable")
							}
							return errFull
						}
						tx.Put("quota.p", []byte(strconv.Itoa(number(quota)+1)), quota.Revision)
						tx.Put(id, nil, volume.Revision)
						return nil
					})
					return err
				}
			}
			commits := []func() error{create("volume.a"), create("volume.b")}
			if firstLoses {
				// Another process makes volume.a after the first one has read that it is absent.
				commits = append(commits, func() error {
					commit(t, other, func(tx *kvtx.Tx) { tx.Put("volume.a", []byte("other"), 0) })
					var tx kvtx.Tx
					tx.Put("k.x", nil, 0)
					_, err := h.s.Commit(ctx(t), &tx)
					return err
				})
			}
			errs := h.group(t, commits...)
			if firstLoses {
				if errs[0] == nil || errors.Is(errs[0], errFull) || errs[1] != nil {
					t.Errorf("errors %v: the first exists, the second must be made", errs)
				}
				return
			}
			if errs[0] != nil || !errors.Is(errs[1], errFull) {
				t.Errorf("errors %v: the first must be made, the second refused", errs)
			}
		})
	}
}

// TestRefusalOnCachedEntryIsDecidedOnFreshReads: what this process knows says no, what is in the stream says yes.
func TestRefusalOnCachedEntryIsDecidedOnFreshReads(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	s, other := open(t, srv.ClientURL()), open(t, srv.ClientURL())
	r := commit(t, s, func(tx *kvtx.Tx) { tx.Put("lock.a", []byte("held"), 0) })
	commit(t, other, func(tx *kvtx.Tx) { tx.Delete("lock.a", r.Revision("lock.a")) })
	held := errors.New("held")
	runs := 0
	_, err := s.Update(ctx(t), []string{"lock.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		runs++
		e, err := snap.Get("lock.a")
		if err != nil {
			return err
		}
		if e.Exists {
			return held
		}
		tx.Put("lock.a", []byte("mine"), e.Revision)
		return nil
	})
	if err != nil || runs != 2 {
		t.Errorf("Update = %v after %d runs, want success after 2", err, runs)
	}
	// The other way round: assumed absent, but there.
	_, err = s.Update(ctx(t), []string{"op.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		if e, err := snap.Get("op.a"); err != nil || !e.Exists {
			return errors.Join(held, err)
		}
		return nil
	}, kvtx.AssumeAbsent("op.a"))
	if !errors.Is(err, held) {
		t.Errorf("Update = %v, want the function's error", err)
	}
	commit(t, other, func(tx *kvtx.Tx) { tx.Put("op.b", []byte("there"), 0) })
	_, err = s.Update(ctx(t), []string{"op.b"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := snap.Get("op.b")
		if err != nil || e.Exists {
			return errors.Join(held, err)
		}
		tx.Put("op.b", nil, e.Revision)
		return nil
	}, kvtx.AssumeAbsent("op.b"))
	if !errors.Is(err, held) {
		t.Errorf("Update(assumed absent, but there) = %v, want the function's error", err)
	}
}

// TestFixedCommitLeavesTheGroup: its expectation was changed by an earlier member; it is judged on what that one made.
func TestFixedCommitLeavesTheGroup(t *testing.T) {
	t.Parallel()
	h := newHeld(t, serve(t).ClientURL())
	fixed := func(expect kvtx.Revision) func() error {
		return func() error {
			var tx kvtx.Tx
			tx.Put("k.a", []byte("fixed"), expect)
			tx.Put("k.b", nil, 0)
			_, err := h.s.Commit(ctx(t), &tx)
			return err
		}
	}
	errs := h.group(t, h.increment(t, "k.a", "k.c"), fixed(0), h.increment(t, "k.d", "k.c"))
	var conflict *kvtx.ConflictError
	if !errors.As(errs[1], &conflict) || len(conflict.Keys) != 1 || conflict.Keys[0] != "k.a" {
		t.Errorf("fixed commit = %v, want a conflict on k.a", errs[1])
	}
	mustAll(t, []error{errs[0], errs[2]})
	if e := get(t, h.s, "k.c"); number(e) != 2 {
		t.Errorf("k.c = %s, want 2", e.Value)
	}
}

// TestLossOfOneRecordSparesTheOthers: of a group that lost because of one record, only those that touch it go apart; all are made in the end.
func TestLossOfOneRecordSparesTheOthers(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	other := open(t, srv.ClientURL())
	h := newHeld(t, srv.ClientURL())
	for range 3 { // Known to h, then changed by the other one.
		if err := func() error {
			_, err := other.Update(ctx(t), nil, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, []string{"hot"}) })
			return err
		}(); err != nil {
			t.Fatal(err)
		}
		get(t, h.s, "hot")
	}
	_, err := other.Update(ctx(t), nil, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, []string{"hot"}) })
	if err != nil {
		t.Fatal(err)
	}
	var commits []func() error
	for i := range 30 {
		keys := []string{fmt.Sprintf("own.%d", i), fmt.Sprintf("own2.%d", i)}
		if i%10 == 0 {
			keys[1] = "hot"
		}
		commits = append(commits, h.increment(t, keys...))
	}
	mustAll(t, h.group(t, commits...))
	if e := get(t, h.s, "hot"); number(e) != 7 {
		t.Errorf("hot = %s, want 7", e.Value)
	}
	// One that lost, one of the spared, one of those apart.
	if n := h.seen(kvtx.Batch); n != 3 {
		t.Errorf("%d batches, want 3", n)
	}
}

// TestNothingRestsOnAWriteThatWasNotMade: a commit of one message that read another member's write is not made without it.
func TestNothingRestsOnAWriteThatWasNotMade(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	other := open(t, srv.ClientURL())
	h := newHeld(t, srv.ClientURL())
	r := commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0) })
	get(t, h.s, "k.a")
	commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("10"), r.Revision("k.a")) })
	mustAll(t, h.group(t, h.increment(t, "k.a"), func() error {
		_, err := h.s.Update(ctx(t), []string{"k.a", "k.b"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
			a, err := snap.Get("k.a")
			if err != nil {
				return err
			}
			tx.Put("k.b", a.Value, 0)
			return nil
		})
		return err
	}))
	if a, b := number(get(t, h.s, "k.a")), number(get(t, h.s, "k.b")); a != 11 || b != 10 && b != 11 {
		t.Errorf("k.a = %d, k.b = %d: want 11, and a copy of what k.a has been", a, b)
	}
}

// TestEachIncrementCounts: 40 concurrent increments of one record by two processes.
func TestEachIncrementCounts(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	stores := []*kvtx.Store{open(t, srv.ClientURL()), open(t, srv.ClientURL())}
	for _, n := range []int{1, 2} { // Of the two stores.
		key := "counter." + strconv.Itoa(n)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				keys := []string{key}
				if i%3 == 0 {
					keys = append(keys, fmt.Sprintf("own.%d.%d", n, i))
				}
				_, err := stores[i%n].Update(ctx(t), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, keys) })
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if e := get(t, stores[0], key); number(e) != 40 {
			t.Errorf("%d stores: counter = %s, want 40", n, e.Value)
		}
	}
}

// TestLoneCommitOfOneMessageIsOnePlainWrite: the committer does not get in its way.
func TestLoneCommitOfOneMessageIsOnePlainWrite(t *testing.T) {
	t.Parallel()
	var f faults
	s := newStore(t, f.option())
	for range 3 {
		if _, err := s.Update(ctx(t), []string{"k.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, []string{"k.a"}) }); err != nil {
			t.Fatal(err)
		}
	}
	if f.seen(kvtx.Batch) != 0 || f.seen(kvtx.Write) != 3 || f.seen(kvtx.Read) != 1 {
		t.Errorf("%d batches, %d writes, %d reads; want 0, 3, 1", f.seen(kvtx.Batch), f.seen(kvtx.Write), f.seen(kvtx.Read))
	}
}

// TestCommitsGoOnAfterTheReceiptExpired: a process was idle for longer than its receipt lives.
func TestCommitsGoOnAfterTheReceiptExpired(t *testing.T) {
	t.Parallel()
	var f faults
	s := newStore(t, f.option())
	keys := []string{"k.a", "k.b"}
	update := func() {
		t.Helper()
		if _, err := s.Update(ctx(t), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, keys) }); err != nil {
			t.Fatal(err)
		}
	}
	update()
	if err := s.Stream().Purge(ctx(t), purgeSubject(s.Subject("rcpt.>"))); err != nil {
		t.Fatal(err)
	}
	update()
	update()
	if e := get(t, s, "k.b"); number(e) != 3 || f.seen(kvtx.Batch) != 4 {
		t.Errorf("k.b = %s after %d batches, want 3 after 4", e.Value, f.seen(kvtx.Batch))
	}
}

// TestLargeCommitsAreDividedIntoBatches: more than one batch can hold, waiting at the same moment.
func TestLargeCommitsAreDividedIntoBatches(t *testing.T) {
	t.Parallel()
	h := newHeld(t, serve(t).ClientURL())
	var commits []func() error
	for i := range 10 {
		commits = append(commits, func() error {
			var tx kvtx.Tx
			for j := range 120 {
				tx.Put(fmt.Sprintf("k.%d.%d", i, j), nil, 0)
			}
			_, err := h.s.Commit(ctx(t), &tx)
			return err
		})
	}
	mustAll(t, h.group(t, commits...))
	if n := h.seen(kvtx.Batch); n != 3 {
		t.Errorf("%d batches, want 3", n)
	}
}

func TestCloseRefusesWhoWaits(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", nil, 0) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var tx kvtx.Tx
	tx.Put("k.b", nil, 0)
	if _, err := s.Commit(ctx(t), &tx); !errors.Is(err, kvtx.ErrClosed) {
		t.Errorf("Commit = %v, want ErrClosed", err)
	}
	if _, err := s.Get(ctx(t), "k.a"); !errors.Is(err, kvtx.ErrClosed) {
		t.Errorf("Get = %v, want ErrClosed", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}
