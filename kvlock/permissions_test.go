package kvlock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// The permissions that the package doc names are enough for every verb, and those of a reader for every list.
func TestThePermissionsInThePackageDocAreEnough(t *testing.T) {
	t.Parallel()
	inbox := &server.SubjectPermission{Allow: []string{"_INBOX.>"}}
	look := []string{"$JS.API.STREAM.INFO.KV_scoria", "$JS.API.STREAM.MSG.GET.KV_scoria", "$JS.API.CONSUMER.*.KV_scoria.>", "$JS.API.CONSUMER.MSG.NEXT.KV_scoria.>"}
	write := []string{"$KV.scoria.op.>", "$KV.scoria.lock.>", "$KV.scoria.rcpt.>", "$KV.scoria.chk.>", "op.scoria.wake.>"}
	serve := []string{"$JS.ACK.KV_scoria.kvlock-wakes.>", "$JS.API.STREAM.PURGE.KV_scoria"}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true,
		Users: []*server.User{
			{Username: "owner", Password: "x"},
			{Username: "locker", Password: "x", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: slices.Concat(write, look, serve)}, Subscribe: inbox,
			}},
			{Username: "reader", Password: "x", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: look}, Subscribe: inbox,
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("server does not start")
	}
	connect := func(user string) jetstream.JetStream {
		nc, err := nats.Connect(srv.ClientURL(), nats.UserInfo(user, "x"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			t.Errorf("%s: %v", user, err)
		}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return js
	}
	open := func(user string, open func() (*kvtx.Store, error)) *kvlock.Locker {
		store, err := open()
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return kvlock.New(store)
	}
	var store *kvtx.Store
	open("owner", func() (*kvtx.Store, error) {
		var err error
		store, err = kvtx.Ensure(t.Context(), connect("owner"), kvtx.Config{})
		return store, err
	})
	l := open("locker", func() (*kvtx.Store, error) { return kvtx.Open(t.Context(), connect("locker"), kvtx.Config{}) })
	r := open("reader", func() (*kvtx.Store, error) { return kvtx.Open(t.Context(), connect("reader"), kvtx.Config{}) })

	claims := []kvlock.Claim{kvlock.Exclusive("volume.v1"), kvlock.Shared("snapshot.s1")}
	acquire(t, l, "op-1", claims...)
	g := save(t, l, adopt(t, l, "op-1", "d1"), kvlock.Running, "x")
	if _, err := l.Cancel(t.Context(), "op-1", "user"); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireHeld(t, r, "op-1", claims...)
	kvlocktest.RequireSound(t, r)
	if err := l.End(t.Context(), g, kvlock.Done, nil); err != nil {
		t.Fatal(err)
	}
	acquire(t, l, "op-2", claims...)
	if err := l.Break(t.Context(), "op-2", "test", kvlock.NothingFenced); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireFree(t, r)

	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- l.ServeWakes(serving) }()
	writer := acquire(t, l, "op-3", kvlock.Exclusive("a"))
	for i := range kvlock.MaxGrants + 1 { // more than one commit lets in
		queue(t, l, fmt.Sprintf("reader-%d", i), kvlock.Shared("a"))
	}
	if err := l.Release(t.Context(), writer); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all readers are in", func() bool {
		lock, err := r.Holders(t.Context(), "a")
		return err == nil && len(lock.Holders) == kvlock.MaxGrants+1
	})
	if _, err := l.Acquire(t.Context(), "op-4", nil, kvlock.Wait{Deadline: time.Now().Add(20 * time.Millisecond)}, kvlock.Exclusive("a")); !errors.Is(err, kvlock.ErrDeadline) {
		t.Errorf("Acquire beside readers = %v, want its deadline", err)
	}
	eventually(t, "served wakes are purged", func() bool {
		info, err := store.Stream().Info(t.Context(), jetstream.WithSubjectFilter("op.scoria.wake.>"))
		return err == nil && len(info.State.Subjects) == 0
	})
	stop()
	if err := <-served; err != nil {
		t.Errorf("ServeWakes = %v", err)
	}
	kvlocktest.RequireSound(t, l)
}
