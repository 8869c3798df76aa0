package kvtx_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// follower keeps what a watch reported.
type follower struct {
	mu       sync.Mutex
	events   []kvtx.Event
	state    map[string]kvtx.Entry
	caughtUp int
	last     kvtx.Revision
	faults   []string
}

func (f *follower) see(ev kvtx.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, ev)
	if ev.Sequence < f.last || ev.Sequence == f.last && !ev.CaughtUp && ev.Entry.Exists {
		f.faults = append(f.faults, fmt.Sprintf("sequence %d after %d", ev.Sequence, f.last))
	}
	f.last = ev.Sequence
	if ev.CaughtUp {
		f.caughtUp++
		return nil
	}
	if f.state == nil {
		f.state = map[string]kvtx.Entry{}
	}
	f.state[ev.Entry.Key] = ev.Entry
	return nil
}

// holds waits until the follower's state of the key is so.
func (f *follower) holds(t *testing.T, key, value string, exists bool) {
	t.Helper()
	until(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		e, ok := f.state[key]
		return ok && e.Exists == exists && string(e.Value) == value
	})
}

// watch follows until the test ends.
func watch(t *testing.T, s *kvtx.Store, filters ...string) *follower {
	t.Helper()
	f := &follower{}
	wctx, cancel := context.WithCancel(ctx(t))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Watch(wctx, filters, f.see); !errors.Is(err, context.Canceled) {
			t.Errorf("Watch = %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.faults) > 0 {
			t.Errorf("out of order: %v", f.faults)
		}
		if f.caughtUp != 1 {
			t.Errorf("caught up %d times", f.caughtUp)
		}
	})
	return f
}

func TestWatchReportsStateInOrderThenChanges(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, key := range []string{"volume.a", "volume.b", "snapshot.a", "volume.c", "lock.volume.a"} {
		commit(t, s, func(tx *kvtx.Tx) { tx.Put(key, []byte("1"), 0) })
	}
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("volume.a", []byte("2"), get(t, s, "volume.a").Revision) })
	commit(t, s, func(tx *kvtx.Tx) { tx.Delete("volume.b", get(t, s, "volume.b").Revision) })
	f := watch(t, s, "volume.*", "snapshot.>", "volume.*")
	until(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.caughtUp == 1 })
	f.mu.Lock()
	var got []string
	for _, ev := range f.events {
		if !ev.CaughtUp {
			got = append(got, fmt.Sprintf("%s=%s %v", ev.Entry.Key, ev.Entry.Value, ev.Entry.Exists))
		}
	}
	reached := f.last
	f.mu.Unlock()
	if want := []string{"snapshot.a=1 true", "volume.c=1 true", "volume.a=2 true", "volume.b= false"}; !slices.Equal(got, want) {
		t.Errorf("reported %q, want %q", got, want)
	}
	if e := get(t, s, "volume.b"); reached < e.Revision {
		t.Errorf("caught up at %d, the stream was at %d", reached, e.Revision)
	}
	r := commit(t, s, func(tx *kvtx.Tx) { tx.Put("volume.b", []byte("3"), 0); tx.Put("lock.volume.b", nil, 0) })
	f.holds(t, "volume.b", "3", true)
	f.mu.Lock()
	if e := f.state["volume.b"]; e.Revision != r.Revision("volume.b") {
		t.Errorf("reported at %d, written at %d", e.Revision, r.Revision("volume.b"))
	}
	f.mu.Unlock()
	commit(t, s, func(tx *kvtx.Tx) { tx.Delete("volume.b", r.Revision("volume.b")) })
	f.holds(t, "volume.b", "", false)
}

func TestWatchOfNothingIsCaughtUpAtOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	f := watch(t, s, "volume.*")
	until(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.caughtUp == 1 })
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("other.a", nil, 0); tx.Put("volume.a", []byte("1"), 0) })
	f.holds(t, "volume.a", "1", true)
}

// TestWatchReportsExpiry: the server says nothing when the time of a key has passed.
func TestWatchReportsExpiry(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	commit(t, s, func(tx *kvtx.Tx) { tx.PutTTL("op.early", []byte("1"), 0, 2*time.Second) })
	f := watch(t, s, "op.*")
	commit(t, s, func(tx *kvtx.Tx) { tx.PutTTL("op.late", []byte("1"), 0, time.Second) })
	r := commit(t, s, func(tx *kvtx.Tx) { tx.PutTTL("op.kept", []byte("1"), 0, time.Second) })
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("op.kept", []byte("2"), r.Revision("op.kept")) })
	f.holds(t, "op.late", "1", true)
	f.holds(t, "op.late", "", false)
	f.holds(t, "op.early", "", false)
	f.holds(t, "op.kept", "2", true)
	if e := get(t, s, "op.late"); e.Exists {
		t.Error("op.late was reported as gone and is there")
	}
}

// TestWatchHasNoGapOverReconnects: every key's last state arrives, whatever breaks meanwhile.
func TestWatchHasNoGapOverReconnects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := startServer(t, dir, -1)
	port := srv.Addr().(*net.TCPAddr).Port
	p := newProxy(t, srv.ClientURL())
	writer, watcher := open(t, srv.ClientURL()), open(t, p.url())
	f := watch(t, watcher, "k.*")
	const keys, rounds = 20, 30
	for round := range rounds {
		switch {
		case round%5 == 3:
			p.cutAll()
		case round == 16:
			srv.Shutdown()
			srv.WaitForShutdown()
			srv = startServer(t, dir, port)
		}
		var all []string
		for i := range keys {
			all = append(all, "k."+strconv.Itoa(i))
		}
		if _, err := writer.Update(ctx(t), all, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, all) }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range keys {
		f.holds(t, "k."+strconv.Itoa(i), strconv.Itoa(rounds), true)
	}
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
}

// TestWatchGetsWhatTheLastConnectionLost: the last change of all was on its way when the connection broke; nothing follows it.
func TestWatchGetsWhatTheLastConnectionLost(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	p := newProxy(t, srv.ClientURL())
	s, watcher := open(t, srv.ClientURL()), open(t, p.url())
	f := watch(t, watcher, "k.*")
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("before"), 0) })
	f.holds(t, "k.a", "before", true)
	word := "needle"
	p.cutAnswer.Store(&word)
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.b", []byte(word), 0) })
	f.holds(t, "k.b", word, true)
	if p.met.Load() != 1 {
		t.Error("the delivery was not lost")
	}
}

func TestWatchEndsWithItsFunction(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", nil, 0) })
	enough := errors.New("enough")
	if err := s.Watch(ctx(t), nil, func(kvtx.Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("Watch = %v, want the function's error", err)
	}
	if err := s.Watch(ctx(t), []string{"a..b"}, func(kvtx.Event) error { return nil }); !errors.Is(err, kvtx.ErrInvalid) {
		t.Errorf("Watch of a bad filter = %v, want ErrInvalid", err)
	}
	// The server refuses filters that overlap.
	if err := s.Watch(ctx(t), []string{"op.*", "op.a"}, func(kvtx.Event) error { return nil }); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Watch of overlapping filters = %v, want an error", err)
	}
	var wg sync.WaitGroup
	started := make(chan struct{})
	wg.Go(func() {
		err := s.Watch(ctx(t), []string{"k.*"}, func(ev kvtx.Event) error {
			if ev.CaughtUp {
				close(started)
			}
			return nil
		})
		if !errors.Is(err, kvtx.ErrClosed) {
			t.Errorf("Watch of a closed store = %v, want ErrClosed", err)
		}
	})
	<-started
	_ = s.Close()
	wg.Wait()
}

// TestWatchOfReplacedStreamEnds: sequences of the old stream mean nothing in the new one.
func TestWatchOfReplacedStreamEnds(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	s := open(t, srv.ClientURL())
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", nil, 0) })
	js := connect(t, srv.ClientURL())
	err := s.Watch(ctx(t), nil, func(ev kvtx.Event) error {
		if !ev.CaughtUp {
			return nil
		}
		if err := js.DeleteStream(ctx(t), "KV_scoria"); err != nil {
			return err
		}
		_, err := kvtx.Ensure(ctx(t), js, kvtx.Config{})
		return err
	})
	if !errors.Is(err, kvtx.ErrStreamReplaced) {
		t.Errorf("Watch = %v, want ErrStreamReplaced", err)
	}
}

func TestScanGivesEachKeyOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	want := []string{}
	for i := range 50 {
		key := fmt.Sprintf("k.%02d", i)
		r := commit(t, s, func(tx *kvtx.Tx) { tx.Put(key, []byte("1"), 0) })
		if i%5 == 0 {
			commit(t, s, func(tx *kvtx.Tx) { tx.Delete(key, r.Revision(key)) })
			continue
		}
		want = append(want, key)
	}
	var got []string
	err := s.Scan(ctx(t), "k.*", func(e kvtx.Entry) error {
		got = append(got, e.Key)
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Scan = %v, %v; want %v", got, err, want)
	}
	stop := errors.New("stop")
	if err := s.Scan(ctx(t), "k.>", func(kvtx.Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Scan = %v, want the function's error", err)
	}
}
