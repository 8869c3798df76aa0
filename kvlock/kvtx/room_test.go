package kvtx_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// A server that has no room refuses for good, and says so in an error of its own.
func TestAServerWithoutRoomRefuses(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 10 }).Store(t)
	var err error
	for i := 0; err == nil && i < 100; i++ {
		tx := new(kvtx.Tx)
		tx.Put(fmt.Sprint("k", i), make([]byte, 4<<10), 0)
		_, err = store.Commit(t.Context(), tx)
	}
	if !errors.Is(err, kvtx.ErrNoRoom) {
		t.Errorf("commits on a server with 64 KiB = %v, want ErrNoRoom", err)
	}
}
