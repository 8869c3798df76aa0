package sagakv_test

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// A program with nothing but a NATS server runs sagas that survive it. (Needs a server, so it is compiled and not run.)
func ExampleNewJournal() {
	ctx := context.Background()
	nc, err := nats.Connect(nats.DefaultURL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		fmt.Println(err)
		return
	}
	store, err := kvtx.Ensure(ctx, js, kvtx.Config{Bucket: "parcels"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = store.Close() }()
	journal := sagakv.NewJournal(store, kvlock.New(store), rand.Text(), nil) // a new name at every start

	def := saga.Definition[disk]{Name: "disk.count", Version: 1, Steps: []saga.Step[disk]{{
		Name: "count",
		Do: func(_ context.Context, run saga.Run, _ *disk) error {
			run.Stage(sagakv.Keyed{Keys: []string{"disks"}, Write: count("disks", 1)}) // committed with the step, once
			return nil
		},
		Undo: saga.Nothing[disk],
	}}}
	res, err := saga.Exec(ctx, saga.New(journal, &saga.Registry{}), def, "op-1", disk{})
	fmt.Println(res.Status.Phase, err)
}

// A worker that took an operation over, told of it by a message, drives its run.
func ExampleAttach() {
	work := func(ctx context.Context, store *kvtx.Store, locker *kvlock.Locker, e *saga.Executor, id, delivery string) error {
		grant, rec, err := locker.Adopt(ctx, id, "worker-1", delivery)
		if err != nil {
			return err
		}
		log, err := sagakv.Attach(store, locker, grant, rec)
		if err != nil {
			return err
		}
		_, err = e.Run(ctx, log, "disk.create", 0, disk{Name: string(log.Request())})
		return err
	}
	_ = work
}
