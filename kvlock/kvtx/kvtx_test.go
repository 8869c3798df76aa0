package kvtx_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func TestBatchIsAllOrNone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := commit(t, s, func(tx *kvtx.Tx) {
		tx.Put("volume.a", []byte("1"), 0)
		tx.Put("volume.b", []byte("2"), 0)
		tx.Publish(s.DispatchSubject("req", "b", "op", "1"), []byte("go"), nil)
	})
	a, b := get(t, s, "volume.a"), get(t, s, "volume.b")
	if !a.Exists || !b.Exists || a.Revision != r.Revision("volume.a") || b.Revision != r.Revision("volume.b") || a.Revision == b.Revision {
		t.Fatalf("after the commit: %+v, %+v; result %+v", a, b, r)
	}
	msg, err := s.Stream().GetLastMsgForSubject(ctx(t), s.DispatchSubject("req", "b", "op", "1"))
	if err != nil || string(msg.Data) != "go" || msg.Sequence <= uint64(b.Revision) {
		t.Fatalf("dispatch = %+v, %v: must be there, behind the records", msg, err)
	}

	var tx kvtx.Tx
	tx.Put("volume.a", []byte("3"), a.Revision)
	tx.Put("volume.b", []byte("4"), b.Revision-1)
	tx.Put("volume.c", []byte("5"), 0)
	_, err = s.Commit(ctx(t), &tx)
	var conflict *kvtx.ConflictError
	if !errors.As(err, &conflict) || !errors.Is(err, kvtx.ErrConflict) || !slices.Equal(conflict.Keys, []string{"volume.b"}) {
		t.Fatalf("Commit(old revision of volume.b) = %v, want a conflict that names volume.b", err)
	}
	if got := get(t, s, "volume.a"); string(got.Value) != "1" {
		t.Errorf("volume.a = %q after a refused commit, want 1", got.Value)
	}
	if got := get(t, s, "volume.c"); got.Exists {
		t.Errorf("volume.c exists after a refused commit")
	}
}

func TestPutOfAbsentKeySucceedsOnDeleteMarker(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0) })
	commit(t, s, func(tx *kvtx.Tx) { tx.Delete("k.a", r.Revision("k.a")) })
	if e := get(t, s, "k.a"); e.Exists || e.Revision == 0 {
		t.Fatalf("deleted entry = %+v, want a marker with its revision", e)
	}
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("2"), 0) })
	commit(t, s, func(tx *kvtx.Tx) { tx.Delete("k.a", get(t, s, "k.a").Revision) })
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("3"), 0); tx.Put("k.b", []byte("1"), 0) })
	if e := get(t, s, "k.a"); string(e.Value) != "3" {
		t.Errorf("k.a = %+v, want 3", e)
	}
	var tx kvtx.Tx
	tx.Put("k.a", []byte("4"), 0)
	if _, err := s.Commit(ctx(t), &tx); !errors.Is(err, kvtx.ErrConflict) {
		t.Errorf("Put of a present key as absent = %v, want ErrConflict", err)
	}
}
