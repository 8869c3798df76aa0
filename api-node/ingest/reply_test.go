package ingest_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// A client that may only submit must not make the node write into the bucket by naming a record as the reply subject.
func TestAnswersGoToInboxesAlone(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	js, err := jetstream.New(s.nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_scoria")
	if err != nil {
		t.Fatal(err)
	}
	last := func() uint64 {
		t.Helper()
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.LastSeq
	}
	before := last()
	for _, reply := range []string{"$KV.scoria.quota.demo", "op.scoria.req.b1.x.1", "$KV.scoria.lock.volume.x", "$JS.API.STREAM.DELETE.KV_scoria"} {
		for _, subject := range []string{messages.SubmitSubject(project, block.VolumeCreate), messages.GetSubject(project)} {
			if err := s.nc.PublishRequest(subject, reply, []byte("junk")); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A question that is answered proves that those before it, on the same connection, were taken.
	for _, subject := range []string{messages.SubmitSubject(project, block.VolumeCreate), messages.GetSubject(project)} {
		if _, err := s.nc.Request(subject, []byte("junk"), limit); err != nil {
			t.Fatalf("an inbox got no answer: %v", err)
		}
	}
	<-s.stop() // whatever was taken has been answered
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if after := last(); after != before {
		t.Errorf("%d messages were written into the stream", after-before)
	}
}
