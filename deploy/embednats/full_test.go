package embednats_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/deploy/embednats"
	"github.com/scoria-storage/scoria/integration/harness"
)

// A stream that met a full disk takes nothing more, also when there is room again. After a restart in place it does, everything that was
// acknowledged is there, and the connections of this process and of others have found the server again.
func TestARestartHealsWhatAFullDiskBroke(t *testing.T) {
	t.Parallel()
	dir := harness.Tmpfs(t, "16m")
	srv := start(t, embednats.Config{Dir: dir, Listen: "127.0.0.1:0"})
	url := srv.URL()
	outside, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	js := connect(t, srv, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	fill := filepath.Join(dir, "fill")
	harness.Fill(t, fill, 64<<10)
	acknowledged := 0
	for srv.Broken() == nil {
		if publish(t.Context(), js) == nil {
			acknowledged++
		}
	}
	if acknowledged == 0 || !strings.Contains(srv.Broken().Error(), "no space left") {
		t.Fatalf("after %d messages broken by %v, want a full disk after some", acknowledged, srv.Broken())
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if err := publish(t.Context(), js); err == nil {
		t.Fatal("the broken server takes messages: it needs no restart")
	}
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := srv.Broken(); err != nil || srv.URL() != url {
		t.Errorf("after the restart broken by %v at %s, want it whole at %s", err, srv.URL(), url)
	}
	over, err := jetstream.New(outside)
	if err != nil {
		t.Fatal(err)
	}
	for _, js := range []jetstream.JetStream{js, over} {
		harness.Eventually(t, 10*time.Second, "the connection is back", func() bool { return publish(t.Context(), js) == nil })
	}
	stream, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got < uint64(acknowledged)+2 {
		t.Errorf("%d messages, want at least the %d that were acknowledged", got, acknowledged+2)
	}
}

// publish publishes a message and waits a moment for its acknowledgement.
func publish(ctx context.Context, js jetstream.JetStream) error {
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err := js.Publish(ctx, "s.a", make([]byte, 8<<10))
	return err
}

// What was free when the server started is no limit later.
func TestADiskThatGrowsIsUsed(t *testing.T) {
	t.Parallel()
	dir := harness.Tmpfs(t, "16m")
	fill := filepath.Join(dir, "fill")
	harness.Fill(t, fill, 1<<20)
	js := connect(t, start(t, embednats.Config{Dir: dir}))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if _, err := js.Publish(t.Context(), "s.a", make([]byte, 512<<10)); err != nil {
			t.Fatalf("with %d KiB free: %v", harness.Free(t, dir)>>10, err)
		}
	}
}

func TestAStartOnAFullDiskSaysSoAtOnce(t *testing.T) {
	t.Parallel()
	dir := harness.Tmpfs(t, "64k,nr_inodes=2")
	if err := os.WriteFile(filepath.Join(dir, "last"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	srv, err := embednats.Start(t.Context(), embednats.Config{Dir: filepath.Join(dir, "nats")}, slog.New(slog.DiscardHandler))
	if err == nil {
		srv.Shutdown()
	}
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || time.Since(begin) > 5*time.Second {
		t.Errorf("start on a full disk = %v after %s, want that no space is left at once", err, time.Since(begin))
	}
}

// A purge that meets a full disk locks the server up. It is found out, and the process can end.
func TestAServerThatHangsIsFoundOut(t *testing.T) {
	t.Parallel()
	dir := harness.Tmpfs(t, "16m")
	srv, err := embednats.Start(t.Context(), embednats.Config{Dir: dir, Hang: 500 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	js := connect(t, srv)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		subject := "s.gone"
		if i%2 == 0 {
			subject = "s.kept"
		}
		if _, err := js.Publish(t.Context(), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := srv.Broken(); err != nil {
		t.Fatal(err)
	}
	harness.Fill(t, filepath.Join(dir, "fill"), 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject("s.gone")); err == nil {
		t.Fatal("the purge found room")
	}
	if err := srv.Broken(); !errors.Is(err, embednats.ErrHangs) {
		t.Errorf("broken by %v, want ErrHangs; if the server does not hang any more, what is done about it can go", err)
	}
	srv.Shutdown() // returns
}
