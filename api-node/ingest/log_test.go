package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/ingest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// What is the node's own fault stands in its log; a refusal does not.
func TestAnInternalErrorIsLogged(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	var log bytes.Buffer
	answers := []error{messages.Errorf(messages.CodeConflict, "it is held"), errors.New("volume.v1 is broken")}
	in := ingest.New(ingest.Config{Window: time.Hour}, submitter(func(context.Context, admit.Submission) (admit.Accepted, error) {
		err := answers[0]
		answers = answers[1:]
		return admit.Accepted{}, err
	}), nil, slog.New(slog.NewTextHandler(&log, nil)))
	s := &stack{t: t, nc: srv.Conn(t)}
	ready, nc := make(chan struct{}), srv.Conn(t)
	stop := background(t, func(ctx context.Context) error { return in.Run(ctx, nc, func() { close(ready) }) })
	<-ready
	env := messages.Encode(envelope("", &messages.CreateVolume{SizeGiB: 1}))
	subject := messages.SubmitSubject("demo", block.VolumeCreate)
	for _, want := range []messages.Code{messages.CodeConflict, messages.CodeInternal} {
		if r := s.ask(subject, env); r.Error == nil || r.Error.Code != want {
			t.Errorf("answer %+v, want code %s", r, want)
		}
	}
	<-stop()
	if text := log.String(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "volume.v1 is broken") || strings.Contains(text, "it is held") {
		t.Errorf("log %q, want the internal error alone, once", text)
	}
}
