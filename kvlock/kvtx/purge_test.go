package kvtx_test

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func TestNothingIsPurgedWhileTheGateIsClosed(t *testing.T) {
	t.Parallel()
	closed := errors.New("the disk is full")
	s := newStore(t, kvtx.WithPurgeGate(func(context.Context) error { return closed }))
	put := func() error {
		_, err := s.Update(t.Context(), []string{"k"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
			e, err := snap.Get("k")
			tx.Put("k", []byte("v"), e.Revision)
			return err
		})
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	all := jetstream.WithPurgeSubject(s.Subject(">"))
	if err := s.Stream().Purge(t.Context(), all); !errors.Is(err, closed) {
		t.Errorf("Purge while the gate is closed = %v, want its reason", err)
	}
	if e, err := s.Get(t.Context(), "k"); err != nil || !e.Exists {
		t.Errorf("after a purge that was refused: %+v, %v", e, err)
	}
	closed = nil
	if err := s.Stream().Purge(t.Context(), all); err != nil {
		t.Errorf("Purge through an open gate = %v", err)
	}
	if e, err := s.Get(t.Context(), "k"); err != nil || e.Exists {
		t.Errorf("after a purge: %+v, %v", e, err)
	}
}
