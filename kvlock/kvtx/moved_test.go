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
