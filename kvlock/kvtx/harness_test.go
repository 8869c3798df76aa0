package kvtx_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// startServer boots a server with file storage and sync always. port -1 takes a free one.
func startServer(t testing.TB, dir string, port int) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("server is not ready")
	}
	return srv
}

// serve boots a server for one test.
func serve(t testing.TB) *server.Server {
	t.Helper()
	srv := startServer(t, t.TempDir(), -1)
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	return srv
}

func connect(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
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

// open connects to the server and opens a store of its own.
func open(t testing.TB, url string, opts ...kvtx.Option) *kvtx.Store {
	t.Helper()
	s, err := kvtx.Ensure(ctx(t), connect(t, url), kvtx.Config{}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// newStore is a store on a server of its own.
func newStore(t testing.TB, opts ...kvtx.Option) *kvtx.Store {
	t.Helper()
	return open(t, serve(t).ClientURL(), opts...)
}

// ctx ends a test that hangs.
func ctx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func get(t testing.TB, s *kvtx.Store, key string) kvtx.Entry {
	t.Helper()
	e, err := s.Get(ctx(t), key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func commit(t testing.TB, s *kvtx.Store, stage func(*kvtx.Tx)) kvtx.Result {
	t.Helper()
	var tx kvtx.Tx
	stage(&tx)
	r, err := s.Commit(ctx(t), &tx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func purgeSubject(subject string) jetstream.StreamPurgeOpt {
	return jetstream.WithPurgeSubject(subject)
}

// until waits for a condition.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	ctx := ctx(t)
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("condition did not come true")
		case <-time.After(5 * time.Millisecond):
		}
	}
}
