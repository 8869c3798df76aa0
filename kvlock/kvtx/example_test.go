package kvtx_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// exampleServer boots a server for an example, and gives a connection to it.
func exampleServer() (jetstream.JetStream, func()) {
	dir, err := os.MkdirTemp("", "kvtx")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := server.NewServer(&server.Options{Port: -1, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true})
	if err != nil {
		log.Fatal(err)
	}
	srv.Start()
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		log.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		log.Fatal(err)
	}
	return js, func() {
		nc.Close()
		srv.Shutdown()
		srv.WaitForShutdown()
		_ = os.RemoveAll(dir)
	}
}

// A volume, its project's quota and the message that starts the work are one commit: all or nothing.
func ExampleStore_Update() {
	js, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	store, err := kvtx.Ensure(ctx, js, kvtx.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close() }()

	errQuota := errors.New("quota is used up")
	create := func(id string) error {
		volume, quota := "volume."+id, "quota.demo"
		_, err := store.Update(ctx, []string{volume, quota}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			v, err := s.Get(volume)
			if err != nil {
				return err
			}
			q, err := s.Get(quota)
			if err != nil {
				return err
			}
			used, _ := strconv.Atoi(string(q.Value)) // Absent is none.
			if used == 2 {
				return errQuota
			}
			tx.Put(volume, []byte("creating"), v.Revision)
			tx.Put(quota, []byte(strconv.Itoa(used+1)), q.Revision)
			tx.Publish(store.DispatchSubject("req", "local", id, "1"), nil, nil)
			return nil
		}, kvtx.AssumeAbsent(volume))
		return err
	}
	for _, id := range []string{"a", "b", "c"} {
		fmt.Println(id, create(id))
	}
	// Output:
	// a <nil>
	// b <nil>
	// c quota is used up
}

func ExampleStore_Commit() {
	js, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	store, err := kvtx.Ensure(ctx, js, kvtx.Config{Bucket: "example"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close() }()

	var first kvtx.Tx
	first.Put("lock.a", []byte("op-1"), 0) // 0: only if nobody has it.
	result, err := store.Commit(ctx, &first)
	fmt.Println(err)

	var second kvtx.Tx
	second.Put("lock.a", []byte("op-2"), 0)
	_, err = store.Commit(ctx, &second)
	fmt.Println(err)

	var release kvtx.Tx
	release.Delete("lock.a", result.Revision("lock.a"))
	_, err = store.Commit(ctx, &release)
	fmt.Println(err)
	// Output:
	// <nil>
	// kvtx: changed by others: lock.a
	// <nil>
}

func ExampleStore_Watch() {
	js, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	store, err := kvtx.Ensure(ctx, js, kvtx.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	var tx kvtx.Tx
	tx.Put("volume.a", []byte("available"), 0)
	tx.Put("volume.b", []byte("creating"), 0)
	if _, err := store.Commit(ctx, &tx); err != nil {
		log.Fatal(err)
	}

	done := errors.New("seen enough")
	err = store.Watch(ctx, []string{"volume.*"}, func(ev kvtx.Event) error {
		if ev.CaughtUp {
			return done
		}
		fmt.Printf("%s is %s\n", ev.Entry.Key, ev.Entry.Value)
		return nil
	})
	fmt.Println(err)
	// Output:
	// volume.a is available
	// volume.b is creating
	// seen enough
}
