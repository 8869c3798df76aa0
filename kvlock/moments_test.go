package kvlock_test

import (
	"context"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// betweenReads lets something happen after a key was read, before another one is.
type betweenReads struct {
	first, second string
	happen        func()

	once sync.Once
	read chan struct{}
}

func (b *betweenReads) intercept(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
	if call.Kind != kvtx.Read || b.happen == nil {
		return next(ctx)
	}
	switch call.Keys[0] {
	case b.first:
		err := next(ctx)
		b.once.Do(func() { close(b.read) })
		return err
	case b.second:
		<-b.read
		if happen := b.happen; happen != nil {
			b.happen = nil
			happen()
		}
	}
	return next(ctx)
}

// TestALeaveOfWhatThisProcessHasNotSeenTheLineOf: the process remembers the key from before anybody wanted it.
func TestALeaveOfWhatThisProcessHasNotSeenTheLineOf(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	calm, other := kvlock.New(srv.Store(t)), kvlock.New(srv.Store(t))
	if lock, err := other.Holders(t.Context(), "volume.v1"); err != nil || lock.Revision != 0 {
		t.Fatalf("lock %+v, %v", lock, err)
	}
	acquire(t, calm, "op-1", kvlock.Exclusive("volume.v1"))
	queue(t, calm, "op-2", kvlock.Exclusive("volume.v1"))
	if _, err := other.Leave(t.Context(), "op-2", "test"); err != nil {
		t.Errorf("Leave: %v", err)
	}
	kvlocktest.RequireSound(t, calm)
	kvlocktest.RequireHeld(t, calm, "op-1", kvlock.Exclusive("volume.v1"))
}

// TestADowngradeDoesNotTakeABreakForACorruption: the operation is broken after its record was read, before its lock is.
func TestADowngradeDoesNotTakeABreakForACorruption(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	calm := kvlock.New(srv.Store(t))
	b := &betweenReads{first: kvlock.OwnerKey("op-1"), second: kvlock.LockKey("volume.v1"), read: make(chan struct{})}
	shaken := kvlock.New(srv.Store(t, kvtx.WithCacheBytes(0), kvtx.WithInterceptor(b.intercept)))
	g := acquire(t, shaken, "op-1", kvlock.Exclusive("volume.v1"))
	b.happen = func() {
		if err := calm.Break(context.Background(), "op-1", "test", kvlock.NothingFenced); err != nil {
			t.Error(err)
		}
	}
	_, err := shaken.Downgrade(t.Context(), g, "volume.v1")
	wantErr(t, "Downgrade", err, kvlock.ErrAdopted, kvlock.ErrVoid)
	if b.happen != nil {
		t.Error("the operation was not broken between the two reads: the test is blind")
	}
}

// TestAnAcquireDoesNotTakeItsOwnCopyForACorruption: a copy of the very request is committed after its record was read as absent, before its
// lock is read.
func TestAnAcquireDoesNotTakeItsOwnCopyForACorruption(t *testing.T) {
	t.Parallel()
	for name, stage := range map[string]func(l *kvlock.Locker, s kvtx.Snapshot, tx *kvtx.Tx) error{
		"StageAcquire": func(l *kvlock.Locker, s kvtx.Snapshot, tx *kvtx.Tx) error {
			_, err := l.StageAcquire(s, tx, "op-1", nil, kvlock.Exclusive("volume.v1"))
			return err
		},
		"StageQueue": func(l *kvlock.Locker, s kvtx.Snapshot, tx *kvtx.Tx) error {
			_, err := l.StageQueue(s, tx, "op-1", nil, kvlock.Wait{}, kvlock.Exclusive("volume.v1"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := natstest.Start(t)
			calm := kvlock.New(srv.Store(t))
			b := &betweenReads{first: kvlock.OwnerKey("op-1"), second: kvlock.LockKey("volume.v1"), read: make(chan struct{})}
			store := srv.Store(t, kvtx.WithCacheBytes(0), kvtx.WithInterceptor(b.intercept))
			shaken := kvlock.New(store)
			b.happen = func() {
				if _, err := calm.TryAcquire(context.Background(), "op-1", nil, kvlock.Exclusive("volume.v1")); err != nil {
					t.Error(err)
				}
			}
			_, err := store.Update(t.Context(), shaken.Keys("op-1", kvlock.Exclusive("volume.v1")), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
				return stage(shaken, s, tx)
			})
			wantErr(t, name, err, kvlock.ErrExists)
			if b.happen != nil {
				t.Error("nothing was committed between the two reads: the test is blind")
			}
		})
	}
}

// TestAStageOfALeaveOnALineFromBeforeItWasThere: the key's record is read before the operation is queued, the operation's after it.
func TestAStageOfALeaveOnALineFromBeforeItWasThere(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	calm := kvlock.New(srv.Store(t))
	b := &betweenReads{first: kvlock.LockKey("volume.v1"), second: kvlock.OwnerKey("op-2"), read: make(chan struct{})}
	store := srv.Store(t, kvtx.WithCacheBytes(0), kvtx.WithInterceptor(b.intercept))
	shaken := kvlock.New(store)
	b.happen = func() {
		ctx := context.Background()
		if _, err := calm.TryAcquire(ctx, "op-1", nil, kvlock.Exclusive("volume.v1")); err != nil {
			t.Error(err)
		}
		if _, err := calm.Queue(ctx, "op-2", nil, kvlock.Wait{}, kvlock.Exclusive("volume.v1")); err != nil {
			t.Error(err)
		}
	}
	if _, err := store.Update(t.Context(), shaken.Keys("op-2", kvlock.Exclusive("volume.v1")), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		_, err := shaken.StageLeave(s, tx, "op-2", "test")
		return err
	}); err != nil {
		t.Errorf("StageLeave: %v", err)
	}
	if b.happen != nil {
		t.Error("nothing was queued between the two reads: the test is blind")
	}
	kvlocktest.RequireSound(t, calm)
	wantPhase(t, calm, kvlock.Void, "op-2")
}

// TestAGrantOfAnOperationWhoseRecordExpiredIsStale: an operation of the same name was made since.
func TestAGrantOfAnOperationWhoseRecordExpiredIsStale(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	store := srv.Store(t)
	l := kvlock.New(store)
	acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	old := adopt(t, l, "op-1", "d1")
	release(t, l, "op-1")
	if err := store.Stream().Purge(t.Context(), jetstream.WithPurgeSubject(store.Subject(kvlock.OwnerKey("op-1")))); err != nil {
		t.Fatal(err)
	}
	acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	_, err := l.Save(t.Context(), old, kvlock.Running, nil)
	wantErr(t, "Save", err, kvlock.ErrAdopted)
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.v1"))
}
