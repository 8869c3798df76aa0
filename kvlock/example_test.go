package kvlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// openExample opens a store on a server of its own, as a program does on nats://localhost:4222.
func openExample() (store *kvtx.Store, done func()) {
	dir, err := os.MkdirTemp("", "kvlock-example")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := server.NewServer(&server.Options{Port: -1, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true})
	if err != nil {
		log.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(time.Minute) {
		log.Fatal("server does not start")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		log.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		log.Fatal(err)
	}
	store, err = kvtx.Ensure(context.Background(), js, kvtx.Config{Bucket: "jobs"})
	if err != nil {
		log.Fatal(err)
	}
	return store, func() {
		if err := store.Close(); err != nil {
			log.Print(err)
		}
		nc.Close()
		srv.Shutdown()
		srv.WaitForShutdown()
		if err := os.RemoveAll(dir); err != nil {
			log.Print(err)
		}
	}
}

// One writer, or many readers; whoever is refused learns who is in the way.
func Example() {
	store, done := openExample()
	defer done()
	ctx := context.Background()
	locks := kvlock.New(store)

	grant, err := locks.TryAcquire(ctx, "report-2026", nil, kvlock.Exclusive("report"), kvlock.Shared("ledger"))
	if err != nil {
		log.Fatal(err)
	}

	_, err = locks.TryAcquire(ctx, "close-the-year", nil, kvlock.Exclusive("ledger"))
	var conflict *kvlock.ConflictError
	if errors.As(err, &conflict) {
		on, _ := conflict.On("ledger")
		fmt.Println("ledger is held", on.Mode, "by", on.Holders[0].Owner)
	}

	if err := locks.Release(ctx, grant); err != nil {
		log.Fatal(err)
	}
	if _, err = locks.TryAcquire(ctx, "close-the-year", nil, kvlock.Exclusive("ledger")); err == nil {
		fmt.Println("ledger is free")
	}
	// Output:
	// ledger is held shared by report-2026
	// ledger is free
}

// A grant is data. Another process takes the operation over, and the first one cannot write any more.
func ExampleLocker_Adopt() {
	store, done := openExample()
	defer done()
	ctx := context.Background()
	locks := kvlock.New(store)

	first, err := locks.TryAcquire(ctx, "report-2026", []byte("page 1"), kvlock.Exclusive("report"))
	if err != nil {
		log.Fatal(err)
	}

	second, record, err := locks.Adopt(ctx, "report-2026", "worker-2", "delivery-17")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("goes on at %q, epoch %d\n", record.Payload, second.Epoch())
	fmt.Println("fence is higher:", first.Fence().Less(second.Fence()))

	if _, err = locks.Save(ctx, first, kvlock.Running, []byte("page 2")); errors.Is(err, kvlock.ErrAdopted) {
		fmt.Println("the first worker is out")
	}
	if err := locks.Release(ctx, second); err != nil {
		log.Fatal(err)
	}
	// Output:
	// goes on at "page 1", epoch 1
	// fence is higher: true
	// the first worker is out
}

// The locks, a record of the program's own and the message that starts the work are one commit.
func ExampleLocker_StageAcquire() {
	store, done := openExample()
	defer done()
	ctx := context.Background()
	locks := kvlock.New(store)

	claim := kvlock.Exclusive("report")
	_, err := store.Update(ctx, append(locks.Keys("report-2026", claim), "status"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		if _, err := locks.StageAcquire(s, tx, "report-2026", nil, claim); err != nil {
			return err // nothing is written
		}
		status, err := s.Get("status")
		if err != nil {
			return err
		}
		tx.Put("status", []byte("writing"), status.Revision)
		tx.Publish(store.DispatchSubject("req", "report-2026", "1"), nil, nil)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	for holding, err := range locks.Holdings(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(holding.Key, "is held", holding.Mode, "by", holding.Owner)
	}
	// Output:
	// report is held exclusive by report-2026
}

// An operator takes the locks away from an operation whose worker is lost for good.
func ExampleLocker_Break() {
	store, done := openExample()
	defer done()
	ctx := context.Background()
	locks := kvlock.New(store)

	if _, err := locks.TryAcquire(ctx, "report-2026", nil, kvlock.Exclusive("report")); err != nil {
		log.Fatal(err)
	}
	err := locks.Break(ctx, "report-2026", "host was scrapped", func(_ context.Context, r kvlock.Record, f kvlock.Fence) error {
		fmt.Println("refuse every write of", r.Owner, "with a fence below this one:", !f.IsZero())
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	record, err := locks.Record(ctx, "report-2026")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(record.Phase, "because", record.Audit[0].Reason)
	// Output:
	// refuse every write of report-2026 with a fence below this one: true
	// void because host was scrapped
}

// An operation waits in line. The release that makes room for it grants it, in the same commit.
func ExampleLocker_Acquire() {
	store, done := openExample()
	defer done()
	ctx := context.Background()
	locks := kvlock.New(store)

	first, err := locks.TryAcquire(ctx, "report-2026", nil, kvlock.Exclusive("report"))
	if err != nil {
		log.Fatal(err)
	}
	got := make(chan kvlock.Grant)
	go func() {
		grant, err := locks.Acquire(ctx, "report-2027", nil, kvlock.Wait{Deadline: time.Now().Add(time.Minute)}, kvlock.Exclusive("report"))
		if err != nil {
			log.Fatal(err)
		}
		got <- grant
	}()
	for { // until it stands in line
		report, err := locks.Holders(ctx, "report")
		if err != nil {
			log.Fatal(err)
		}
		if len(report.Line) > 0 {
			fmt.Println(report.Line[0].Owner, "waits behind", report.Holders[0].Owner)
			break
		}
	}
	if err := locks.Release(ctx, first); err != nil {
		log.Fatal(err)
	}
	fmt.Println((<-got).Owner(), "has it")
	// Output:
	// report-2027 waits behind report-2026
	// report-2027 has it
}
