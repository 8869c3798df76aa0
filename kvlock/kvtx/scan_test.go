package kvtx_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TestScanDoesNotMissAKeyThatMoves: a key that was there all the time is written while the scan is on its way to it, so that its
// entry stands behind the end of what was there at the beginning.
func TestScanDoesNotMissAKeyThatMoves(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	s, other := open(t, srv.ClientURL()), open(t, srv.ClientURL())
	const keys = 3000 // More than the server sends ahead.
	const moves = "k.2500"
	var rev kvtx.Revision
	for i := 0; i < keys; i += 300 {
		r := commit(t, other, func(tx *kvtx.Tx) {
			for j := range 300 {
				tx.Put(fmt.Sprintf("k.%04d", i+j), []byte("old"), 0)
			}
		})
		rev = max(rev, r.Revision(moves))
	}
	commit(t, other, func(tx *kvtx.Tx) { tx.Put("k.last", nil, 0) }) // The stream ends with a key that is watched.
	found, moved := map[string]string{}, false
	err := s.Watch(ctx(t), []string{"k.*"}, func(ev kvtx.Event) error {
		if !moved {
			moved = true
			commit(t, other, func(tx *kvtx.Tx) { tx.Put(moves, []byte("new"), rev) })
		}
		if ev.CaughtUp {
			return errCaughtUp
		}
		found[ev.Entry.Key] = string(ev.Entry.Value)
		return nil
	})
	if !errors.Is(err, errCaughtUp) || len(found) != keys+1 || found[moves] != "new" {
		t.Errorf("Watch = %v with %d of %d keys, %s = %q; want new", err, len(found), keys+1, moves, found[moves])
	}
}

var errCaughtUp = errors.New("caught up")

// TestScansUnderWritesMissNoKey: keys that are there all the time are rewritten without end, each write taking the entry before it away.
func TestScansUnderWritesMissNoKey(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	s := open(t, srv.ClientURL())
	const keys = 6
	commit(t, s, func(tx *kvtx.Tx) {
		for i := range keys {
			tx.Put(fmt.Sprintf("k.%d", i), nil, 0)
		}
	})
	writing, stop := context.WithCancel(ctx(t))
	defer stop()
	nc := connect(t, srv.ClientURL()).Conn()
	written := make(chan int)
	go func() {
		n := 0
		for ; writing.Err() == nil; n++ {
			_, _ = nc.Request(s.Subject(fmt.Sprintf("k.%d", n%keys)), nil, time.Second)
		}
		written <- n
	}()
	const scans = 200
	for i := range scans {
		found := 0
		if err := s.Scan(ctx(t), "k.*", func(kvtx.Entry) error { found++; return nil }); err != nil || found != keys {
			t.Errorf("scan %d: %d of %d keys, %v", i, found, keys, err)
		}
	}
	stop()
	if n := <-written; n < scans {
		t.Errorf("%d writes during %d scans: the test is blind", n, scans)
	}
}
