package kvtx_test

import (
	"strconv"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TestEntryThatMovesWhileTheFunctionRuns: another caller of this process reads the key just then, and finds what another process wrote. The
// function staged what its snapshot said, so that is no conflict of its own making: it runs again.
func TestEntryThatMovesWhileTheFunctionRuns(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	s, other := open(t, srv.ClientURL()), open(t, srv.ClientURL())
	commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0) })
	runs := 0
	_, err := s.Update(ctx(t), []string{"k.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := snap.Get("k.a")
		if err != nil {
			return err
		}
		if runs++; runs == 1 {
			commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("10"), e.Revision) })
			get(t, s, "k.a")
		}
		tx.Put("k.a", []byte(strconv.Itoa(number(e)+1)), e.Revision)
		return nil
	})
	if e := get(t, other, "k.a"); err != nil || string(e.Value) != "11" || runs != 2 {
		t.Errorf("Update = %v after %d runs, k.a = %s; want 11 after 2", err, runs, e.Value)
	}
}

// TestAKeyReadsTheSameWithinARun: another caller of this process reads the key between two looks of a function, and finds what another
// process wrote. The function sees one state; had it staged from both, they would contradict each other.
func TestAKeyReadsTheSameWithinARun(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	s, other := open(t, srv.ClientURL()), open(t, srv.ClientURL())
	commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0) })
	runs := 0
	_, err := s.Update(ctx(t), []string{"k.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		first, err := snap.Get("k.a")
		if err != nil {
			return err
		}
		if runs++; runs == 1 {
			commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("10"), first.Revision) })
			get(t, s, "k.a")
		}
		second, err := snap.Get("k.a")
		if err != nil {
			return err
		}
		if first.Revision != second.Revision || string(first.Value) != string(second.Value) {
			t.Errorf("run %d read %s at %d, then %s at %d", runs, first.Value, first.Revision, second.Value, second.Revision)
		}
		tx.Check("k.a", first.Revision)
		tx.Put("k.a", []byte(strconv.Itoa(number(second)+1)), second.Revision)
		return nil
	})
	if e := get(t, other, "k.a"); err != nil || string(e.Value) != "11" || runs != 2 {
		t.Errorf("Update = %v after %d runs, k.a = %s; want 11 after 2", err, runs, e.Value)
	}
}

// TestAbsenceIsNoHint: what a function finds absent and does not write is there by now, made by another process. The commit must not be
// made on what this process remembers.
func TestAbsenceIsNoHint(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	s, other := open(t, srv.ClientURL()), open(t, srv.ClientURL())
	for _, remembered := range []string{"never", "deleted", "assumed"} {
		t.Run(remembered, func(t *testing.T) {
			parent, child := "parent."+remembered, "child."+remembered
			if remembered == "deleted" {
				r := commit(t, s, func(tx *kvtx.Tx) { tx.Put(parent, nil, 0) })
				commit(t, s, func(tx *kvtx.Tx) { tx.Delete(parent, r.Revision(parent)) })
			}
			var opts []kvtx.UpdateOption
			if remembered == "assumed" {
				opts = append(opts, kvtx.AssumeAbsent(parent))
			} else {
				get(t, s, parent)
			}
			made := commit(t, other, func(tx *kvtx.Tx) {
				tx.Put(parent, []byte("here"), get(t, other, parent).Revision)
				tx.Put(child, nil, 0)
			})
			_, err := s.Update(ctx(t), []string{parent, child}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
				p, err := snap.Get(parent)
				if err != nil {
					return err
				}
				if p.Exists {
					tx.Put(parent, []byte("without child"), p.Revision)
				}
				tx.Delete(child, made.Revision(child))
				return nil
			}, opts...)
			if e := get(t, other, parent); err != nil || string(e.Value) != "without child" {
				t.Errorf("Update = %v, parent is %q; want %q", err, e.Value, "without child")
			}
		})
	}
}
