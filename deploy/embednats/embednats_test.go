package embednats_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/deploy/embednats"
)

func start(t *testing.T, cfg embednats.Config) *embednats.Server {
	t.Helper()
	srv, err := embednats.Start(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	return srv
}

func connect(t *testing.T, srv *embednats.Server, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := srv.Connect(opts...)
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

func TestAPortInUseIsAnErrorOfItsOwn(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	srv, err := embednats.Start(t.Context(), embednats.Config{Dir: t.TempDir(), Listen: l.Addr().String()}, nil)
	if err == nil {
		srv.Shutdown()
	}
	if !errors.Is(err, embednats.ErrInUse) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Start on a port in use = %v, want ErrInUse with %s", err, l.Addr())
	}
}

func TestWrongConfigsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]embednats.Config{
		"needs a directory": {Listen: "127.0.0.1:0"},
		"want HOST:PORT":    {Dir: t.TempDir(), Listen: "nonsense"},
		`port "many"`:       {Dir: t.TempDir(), Listen: "127.0.0.1:many"},
		`port "65536"`:      {Dir: t.TempDir(), Listen: "127.0.0.1:65536"},
	} {
		srv, err := embednats.Start(t.Context(), cfg, nil)
		if err == nil {
			srv.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Start(%+v) = %v, want %q in it", cfg, err, want)
		}
	}
}

func TestAStartThatIsGivenUpLeavesTheDirectoryFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	srv, err := embednats.Start(ctx, embednats.Config{Dir: dir}, nil)
	if err == nil { // it was ready at the first look
		srv.Shutdown()
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("Start with a context that ended = %v", err)
	}
	connect(t, start(t, embednats.Config{Dir: dir}))
}

// What was acknowledged is there when the server comes back on the same directory.
func TestARestartKeepsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := start(t, embednats.Config{Dir: dir, Name: "n1"})
	js := connect(t, srv)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(t.Context(), "s.a", []byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	srv.Shutdown()

	stream, err := connect(t, start(t, embednats.Config{Dir: dir, Name: "n1"})).Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), ack.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(msg.Data); got != "kept" {
		t.Errorf("message after the restart = %q, want %q", got, "kept")
	}
}

func TestAServerForThisProcessAloneDoesNotListen(t *testing.T) {
	t.Parallel()
	srv := start(t, embednats.Config{Dir: t.TempDir()})
	if url := srv.URL(); url != "" {
		t.Errorf("URL = %q, want none", url)
	}
	if _, err := connect(t, srv).AccountInfo(t.Context()); err != nil {
		t.Errorf("JetStream over a connection of this process: %v", err)
	}
}

// A free port is taken, others connect to it, and both ways lead to the same server.
func TestConnectionsOfThisProcessAndOfOthersMeet(t *testing.T) {
	t.Parallel()
	srv := start(t, embednats.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	outside, err := nats.Connect(srv.URL())
	if err != nil {
		t.Fatalf("connect to %q: %v", srv.URL(), err)
	}
	defer outside.Close()
	inside, err := srv.Connect(nats.Name("inside"))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	sub, err := outside.SubscribeSync("greeting")
	if err != nil {
		t.Fatal(err)
	}
	if err := outside.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := inside.Publish("greeting", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	msg, err := sub.NextMsgWithContext(t.Context())
	if err != nil || string(msg.Data) != "hello" {
		t.Errorf("received %v, %v, want hello", msg, err)
	}
	if got := inside.Opts.Name; got != "inside" {
		t.Errorf("name of the connection = %q, want inside", got)
	}
}
