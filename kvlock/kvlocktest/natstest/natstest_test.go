package natstest_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

func TestRestartKeepsURLAndData(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	url := srv.URL()
	js := srv.JetStream(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(t.Context(), "s.a", []byte("kept"))
	if err != nil {
		t.Fatal(err)
	}

	srv.Restart(t)

	if got := srv.URL(); got != url {
		t.Errorf("URL after Restart = %s, want %s", got, url)
	}
	stream, err := srv.JetStream(t).Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), ack.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	if string(msg.Data) != "kept" {
		t.Errorf("message after Restart = %q, want %q", msg.Data, "kept")
	}
	if _, err := js.Publish(t.Context(), "s.b", nil); err != nil {
		t.Errorf("publish on the connection from before the Restart: %v", err)
	}
}
