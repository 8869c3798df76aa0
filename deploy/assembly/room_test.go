package assembly

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/deploy/embednats"
	"github.com/scoria-storage/scoria/messages"
)

// A volume node of its own purges as `up` does: only while up's disk has room. Of NATS servers of others nothing can be learned.
func TestANodeBesideUpLearnsOfItsFullDisk(t *testing.T) {
	t.Parallel()
	srv, err := embednats.Start(t.Context(), embednats.Config{Dir: t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	connect := func() *nats.Conn {
		nc, err := srv.Connect()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	up, node := connect(), connect()
	may := askRoom(node)
	if err := may(t.Context()); err != nil {
		t.Errorf("with nobody who answers: %v, want leave", err)
	}
	var short atomic.Pointer[error]
	err = answerRoom(up, func() error {
		if e := short.Load(); e != nil {
			return *e
		}
		return nil
	})
	if err := errors.Join(err, up.Flush()); err != nil {
		t.Fatal(err)
	}
	if err := may(t.Context()); err != nil {
		t.Errorf("with room: %v, want leave", err)
	}
	full := errors.New("the disk of /d is full")
	short.Store(&full)
	if err := may(t.Context()); err == nil || !strings.Contains(err.Error(), full.Error()) {
		t.Errorf("without room: %v, want the reason", err)
	}
	up.Close()
	mute := connect()
	if _, err := mute.SubscribeSync(messages.RoomSubject); err != nil {
		t.Fatal(err)
	}
	if err := mute.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := may(t.Context()); err == nil {
		t.Error("with one who hears and does not answer, as a server that hangs: leave, want an error")
	}
}
