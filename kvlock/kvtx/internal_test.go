package kvtx

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func internalStore(t *testing.T, opts ...Option) *Store {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("server is not ready")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Ensure(t.Context(), js, Config{}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestInFlightRefusalIsRetriedThenAConflict: code 10164 is sent again three times with the same revisions, then it is a conflict.
func TestInFlightRefusalIsRetriedThenAConflict(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{{"k.a"}, {"k.a", "k.b"}} {
		var refuse, sent atomic.Int64
		s := internalStore(t, WithInterceptor(func(ctx context.Context, call Call, next func(context.Context) error) error {
			if call.Kind == Read {
				return next(ctx)
			}
			sent.Add(1)
			if refuse.Add(-1) >= 0 {
				return &apiError{Code: 400, ErrCode: codeInFlight, Description: "wrong last sequence"}
			}
			return next(ctx)
		}))
		stage := func() *Tx {
			var tx Tx
			for _, key := range keys {
				tx.Put(key, []byte("1"), 0)
			}
			return &tx
		}
		refuse.Store(maxInFlight + 1)
		_, err := s.Commit(t.Context(), stage())
		var conflict *ConflictError
		if !errors.As(err, &conflict) || len(conflict.Keys) != 0 {
			t.Errorf("%d keys: Commit = %v, want a conflict that names no key", len(keys), err)
		}
		if n := sent.Load(); n != maxInFlight+1 {
			t.Errorf("%d keys: sent %d times, want %d", len(keys), n, maxInFlight+1)
		}
		sent.Store(0)
		refuse.Store(maxInFlight)
		if _, err := s.Commit(t.Context(), stage()); err != nil {
			t.Errorf("%d keys: Commit after %d refusals = %v", len(keys), maxInFlight, err)
		}
		if n := sent.Load(); n != maxInFlight+1 {
			t.Errorf("%d keys: sent %d times, want %d", len(keys), n, maxInFlight+1)
		}
	}
}

func TestServerVersions(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]bool{
		"2.15.2": true, "2.15.3-RC.1": true, "2.16.0": true, "3.0.0": true, "v2.15.2+build": true,
		"2.15.1": false, "2.12.1": false, "1.99.9": false, "2.15": false, "": false, "dev": false,
	} {
		if err := checkVersion(v); (err == nil) != want || err != nil && !errors.Is(err, ErrServer) {
			t.Errorf("checkVersion(%q) = %v, want fit %v", v, err, want)
		}
	}
}

func TestNewerEntryWins(t *testing.T) {
	t.Parallel()
	entry := func(rev Revision, asked, seen uint64) known {
		return known{Entry: Entry{Key: "k", Revision: rev}, asked: asked, seen: seen}
	}
	for _, c := range []struct {
		name     string
		a, b     known
		aIsNewer bool
	}{
		{"higher revision", entry(5, 1, 4), entry(4, 3, 5), true},
		{"lower revision that was asked for before the higher was seen", entry(4, 3, 5), entry(5, 1, 4), false},
		{"gone after it was seen", entry(0, 5, 6), entry(5, 1, 4), true},
		{"gone, asked for before the write was seen", entry(0, 3, 6), entry(5, 1, 4), false},
		{"write that was seen before its key was read as gone", entry(5, 1, 2), entry(0, 3, 4), false},
		{"same, asked for later", entry(5, 3, 4), entry(5, 1, 2), true},
	} {
		if got := c.a.newer(&c.b); got != c.aIsNewer {
			t.Errorf("%s: newer = %v, want %v", c.name, got, c.aIsNewer)
		}
	}
}

func TestCacheStaysWithinItsLimit(t *testing.T) {
	t.Parallel()
	c := newCache(64 << 10)
	for i := range 10_000 {
		c.put(known{Entry: Entry{Key: string(rune('a'+i%26)) + time.Duration(i).String(), Value: make([]byte, i%300), Revision: Revision(i + 1)}})
	}
	size := 0
	for _, gen := range []map[string]known{c.young, c.old} {
		for k, e := range gen {
			size += len(k) + len(e.Value) + perEntry
		}
	}
	if size > 66<<10 {
		t.Errorf("cache holds %d bytes, limit 64 KiB", size)
	}
}

// TestContestedRecordLeavesOthersTheirTurn: after a loss and after a win a key that others change waits about a round trip, longer after each loss,
// and is as any other once the others are quiet.
func TestContestedRecordLeavesOthersTheirTurn(t *testing.T) {
	t.Parallel()
	c := newCommitter(nil, "test")
	c.trip = 100 * time.Millisecond
	wait := func() time.Duration {
		q := c.apart["k"]
		q.members = []*member{{}}
		due, key := c.dueApart()
		if key != "k" {
			t.Fatalf("next is %q, want k", key)
		}
		return due
	}
	c.setApart("k", &member{})
	for losses, most := range []time.Duration{150 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond, 1200 * time.Millisecond} {
		c.lostApart("k")
		if d := wait(); d < most/3-20*time.Millisecond || d > most {
			t.Errorf("after %d losses it waits %v, want up to %v", losses+1, d, most)
		}
	}
	c.wonApart("k")
	if d := wait(); d < 30*time.Millisecond || d > 150*time.Millisecond {
		t.Errorf("after a win it waits %v, want about 100 ms", d)
	}
	if !c.isHot("k") || c.isHot("other") {
		t.Error("only the key that lost is kept apart")
	}
	c.hot["k"] = time.Now().Add(-time.Millisecond)
	if c.isHot("k") {
		t.Error("the key is kept apart for ever")
	}
}

// TestEntryThatIsRememberedWhileTheFunctionRuns: another caller had read the newer entry before the function ran, and gets to remembering
// it only afterwards. That is no conflict of the function's making: it runs again.
func TestEntryThatIsRememberedWhileTheFunctionRuns(t *testing.T) {
	t.Parallel()
	s := internalStore(t)
	var tx Tx
	tx.Put("k.a", []byte("1"), 0)
	if _, err := s.Commit(t.Context(), &tx); err != nil {
		t.Fatal(err)
	}
	s.cache = newCache(1 << 20)
	runs := 0
	_, err := s.Update(t.Context(), []string{"k.a"}, func(snap Snapshot, tx *Tx) error {
		e, err := snap.Get("k.a")
		if err != nil {
			return err
		}
		if runs++; runs == 1 {
			now := s.clock.Load() // before the function ran, and after the call began
			newer := Entry{Key: "k.a", Value: []byte("2"), Revision: e.Revision + 1, Exists: true}
			s.cache.put(known{newer, now - 1, now, time.Now(), 0})
		}
		tx.Put("k.a", append(e.Value, 'x'), e.Revision)
		return nil
	})
	if errors.Is(err, ErrConflict) || runs < 2 {
		t.Errorf("Update = %v after %d runs, want it to run again", err, runs)
	}
}

// A caller whose context ends while it waits before the next try is told that, and not that the store was closed.
func TestAPauseEndsWithTheCallersOwnReason(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // which of two that have ended is seen first is up to chance
		if err := pause(ctx, ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Fatalf("pause = %v, want %v", err, context.Canceled)
		}
	}
	if err := pause(t.Context(), ctx, time.Hour); !errors.Is(err, ErrClosed) {
		t.Errorf("pause of a store that is closed = %v, want %v", err, ErrClosed)
	}
}
