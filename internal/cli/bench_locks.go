package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/deploy/assembly"
	"github.com/scoria-storage/scoria/deploy/embednats"
	"github.com/scoria-storage/scoria/internal/bench"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func benchLocksCommand() *cobra.Command {
	var b benchFlags
	cmd := &cobra.Command{Use: "locks", Short: "Acquire and release locks, alone and in line", Args: cobra.NoArgs}
	benchFlagsOf(cmd, &b)
	flags := cmd.Flags()
	flags.StringVar(&b.nats, "nats", "", "measure this NATS server, in a bucket that is made for it and removed; default: a server of its own")
	flags.IntVar(&b.servers, "servers", 1, "1, or 3: replicas of the bucket, and servers of its own, all in this process")
	flags.StringVar(&b.dir, "dir", "", "where a server of its own keeps its data; default: a temporary directory")
	cmd.RunE = b.run("locks", benchLocks)
	return cmd
}

// connect connects to what is measured.
type connect func(...nats.Option) (*nats.Conn, error)

func benchLocks(ctx context.Context, b *benchFlags, l bench.Length, progress func(string)) ([]bench.Row, error) {
	if b.servers != 1 && b.servers != 3 {
		return nil, &usageError{&assembly.SettingError{Name: "servers", Value: strconv.Itoa(b.servers), Want: "want 1 or 3"}}
	}
	if b.nats != "" {
		return b.lockRows(ctx, func(opts ...nats.Option) (*nats.Conn, error) {
			nc, err := nats.Connect(b.nats, opts...)
			if err != nil {
				err = fmt.Errorf("setting nats: value %q: %w", assembly.Redacted(b.nats), err)
			}
			return nc, err
		}, l, progress)
	}
	dir, err := os.MkdirTemp(b.dir, "scoria-bench-")
	if err != nil {
		return nil, b.wrongDir(err)
	}
	to, shutdown, err := b.serve(ctx, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	rows, err := b.lockRows(ctx, to, l, progress)
	shutdown()
	return rows, errors.Join(err, os.RemoveAll(dir))
}

// serve starts one server, or three.
func (b *benchFlags) serve(ctx context.Context, dir string) (connect, func(), error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if b.servers == 1 {
		srv, err := embednats.Start(ctx, embednats.Config{Dir: dir, Name: "bench"}, log)
		if err != nil {
			return nil, nil, err
		}
		return srv.Connect, srv.Shutdown, nil
	}
	cluster, err := embednats.StartCluster(ctx, embednats.Config{Dir: dir, Name: "bench"}, b.servers, log)
	if err != nil {
		return nil, nil, err
	}
	return cluster.Connect, cluster.Shutdown, nil
}

// removeLimit bounds the removal of the bucket.
const removeLimit = 10 * time.Second

// lockRows measures in a bucket of its own.
func (b *benchFlags) lockRows(ctx context.Context, to connect, l bench.Length, progress func(string)) (rows []bench.Row, err error) {
	nc, err := to()
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	var batches, writes atomic.Uint64
	count := func(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
		switch call.Kind {
		case kvtx.Batch:
			batches.Add(1)
		case kvtx.Write:
			writes.Add(1)
		case kvtx.Read:
		}
		return next(ctx)
	}
	bucket := "bench-" + rand.Text()
	store, err := kvtx.Ensure(ctx, js, kvtx.Config{Bucket: bucket, Replicas: b.servers}, kvtx.WithInterceptor(count))
	if err != nil {
		return nil, err
	}
	defer func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
		defer cancel()
		err = errors.Join(err, store.Close(), js.DeleteStream(limited, "KV_"+bucket))
	}()
	sent := func() bench.Sent {
		return bench.Sent{Bytes: nc.Stats().OutBytes, Batches: batches.Load(), Writes: writes.Load()}
	}
	return bench.Locks(ctx, bench.LockTarget{Store: store, Sent: sent}, l, b.cases, progress)
}
