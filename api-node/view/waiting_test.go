package view_test

import (
	"bytes"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
)

// queue makes n operations that wait for one volume, which another one holds, and returns them, newest first. The first one is accepted by
// admission; the others are copies of its record, more than may stand in one line.
func (s *stack) queue(n int) []*view.Operation {
	s.t.Helper()
	volume := s.newVolume("p1")
	s.submit("p1", &messages.ExtendVolume{Volume: volume, SizeGiB: 2})
	acc, err := s.admit.Submit(s.t.Context(), admit.Submission{Caller: admit.Caller{Project: "p1", User: "u"}, OnConflict: "queue",
		Request: &messages.ExtendVolume{Volume: volume, SizeGiB: 3}})
	if err != nil {
		s.t.Fatal(err)
	}
	first, err := s.store.Get(s.t.Context(), kvlock.OwnerKey(string(acc.Operation)))
	if err != nil {
		s.t.Fatal(err)
	}
	ids := make([]string, n-1)
	last := s.put(n-1, func(i int) string {
		ids[i] = newID()
		return kvlock.OwnerKey(ids[i])
	}, func(i int) []byte { return bytes.ReplaceAll(first.Value, []byte(acc.Operation), []byte(ids[i])) })
	if err := s.view.Wait(s.t.Context(), last); err != nil {
		s.t.Fatal(err)
	}
	var queued []*view.Operation
	for op := range s.view.Operations("p1") {
		if op.Phase == kvlock.Queued.String() {
			queued = append(queued, op)
		}
	}
	if len(queued) != n {
		s.t.Fatalf("%d operations wait, want %d", len(queued), n)
	}
	return queued
}

// A list with many operations that wait costs no more than a walk over them, and what each waits for.
func BenchmarkListOfWaiting(b *testing.B) {
	s := newStack(b)
	queued := s.queue(1000)
	for b.Loop() {
		s.view.Waits(queued...)
	}
}
