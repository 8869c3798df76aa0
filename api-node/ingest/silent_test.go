package ingest_test

import (
	"context"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/ingest"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/client"
)

// silent is a read side whose stream does not answer: what asks it is left when its time is over.
type silent struct {
	ingest.Reader
	t *testing.T
}

func (s silent) over(ctx context.Context) error {
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > 15*time.Second {
		s.t.Errorf("asked until %s, want a bound", end)
	}
	return context.DeadlineExceeded
}

func (s silent) Wait(ctx context.Context, _ kvtx.Revision) error { return s.over(ctx) }

func (s silent) Lookup(ctx context.Context, _ block.OperationID) (*view.Operation, error) {
	return nil, s.over(ctx)
}

func TestNoMessageWaitsForEverForAStreamThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{reader: func(r ingest.Reader, _ *kvtx.Store) ingest.Reader { return silent{r, t} }})
	id := client.NewID()
	if op := s.submit(envelope(id, create)).Operation; op == nil || op.ID != id || op.Phase != "granted" {
		t.Errorf("an accepted request is answered with %+v, want what is known", op)
	}
	requireRefused(t, "a question", s.get(messages.Query{V: messages.EnvelopeVersion, Operation: id}), messages.CodeUnavailable, string(id))
}
