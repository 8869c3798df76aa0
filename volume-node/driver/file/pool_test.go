package file_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
	"github.com/scoria-storage/scoria/volume-node/driver/lock"
)

// withPool begins the spec of a driver that takes the lock of a pool.
const withPool = "pool/"

// free is a pool that everybody may take.
type free struct{}

func (free) Take(context.Context, string, driver.Call) (func(), error) { return func() {}, nil }

// Two processes of a node make different volumes in one directory: with the lock of the pool one after the other.
func TestCallsTakeTheLockOfThePool(t *testing.T) {
	t.Parallel()
	locks := kvlock.New(natstest.Start(t).Store(t))
	pools := lock.NewKV(locks, slog.New(slog.DiscardHandler))
	worker := func(operation string) driver.Call {
		if _, err := locks.TryAcquire(t.Context(), operation, nil, kvlock.Exclusive("volume."+operation)); err != nil {
			t.Fatal(err)
		}
		g, _, err := locks.Adopt(t.Context(), operation, "w", "d1")
		if err != nil {
			t.Fatal(err)
		}
		return driver.Call{Operation: operation, Fence: driver.Fence{Era: g.Fence().Era, Rev: g.Fence().Rev}}
	}
	dir := t.TempDir()
	inside, goOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	one := open(t, dir, file.Options{Pool: "p", Pools: pools, Hook: func(point string) error {
		if point == "truncate" {
			first.Do(func() { close(inside); <-goOn })
		}
		return nil
	}})
	var early atomic.Bool
	early.Store(true)
	two := open(t, dir, file.Options{Pool: "p", Pools: pools, Hook: func(point string) error {
		if point == "truncate" && early.Load() {
			t.Error("both were at work")
		}
		return nil
	}})
	var calls sync.WaitGroup
	create := func(d *file.Driver, c driver.Call, id driver.VolumeID) {
		calls.Go(func() {
			if err := d.CreateVolume(t.Context(), c, driver.Volume{ID: id, Bytes: 4096}); err != nil {
				t.Error(err)
			}
		})
	}
	create(one, worker("op-1"), "v1")
	<-inside
	waits := make(chan string, 8)
	c := worker("op-2")
	c.Waiting = func(why string) { waits <- why }
	create(two, c, "v2")
	if why := <-waits; !strings.Contains(why, "pool p") || !strings.Contains(why, "op-1") {
		t.Errorf("waits because %q", why)
	}
	early.Store(false)
	close(goOn)
	calls.Wait()
	kvlocktest.RequireFree(t, locks, kvlock.NamedKey("pool.p"))
	kvlocktest.RequireSound(t, locks)
}

func TestTheLockIsASetting(t *testing.T) {
	t.Parallel()
	registry := driver.Registry{file.Kind: file.Factory()}
	for text, c := range map[string]struct {
		pools driver.PoolLocks
		class driver.LockClass
		want  string
	}{
		"a=file:path=DIR":           {class: driver.LockNode},
		"a=file:path=DIR,lock=node": {class: driver.LockNode},
		"a=file:path=DIR,lock=pool": {pools: free{}, class: driver.LockPool},
		"b=file:path=DIR,lock=pool": {want: "no locks of pools"},
		"a=file:path=DIR,lock=none": {want: "want node"},
		"a=file:path=DIR,lock=x":    {want: "want node"},
	} {
		spec, err := driver.ParseSpec(strings.ReplaceAll(text, "DIR", t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		d, err := registry.Open(t.Context(), spec, driver.Env{Pools: c.pools})
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", text, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := d.Info().Lock(driver.MethodCreateVolume); got.Class != c.class || (got.Name == spec.Name) != (c.class == driver.LockPool) {
			t.Errorf("%s: needs %+v, want class %s", text, got, c.class)
		}
		if d.Info().Fencing != driver.FencingNode {
			t.Errorf("%s: fencing class %s", text, d.Info().Fencing)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
