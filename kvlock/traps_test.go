package kvlock_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TestAWakeIsServedThoughTheRequestForItWasLost: whoever serves wakes asks for them once and waits. A request that a server dropped, or had
// when it died, is made again, though nobody says so.
func TestAWakeIsServedThoughTheRequestForItWasLost(t *testing.T) {
	t.Parallel()
	lossy := &natstest.Lossy{}
	js, err := jetstream.New(natstest.Start(t).Conn(t, nats.SetCustomDialer(lossy)))
	if err != nil {
		t.Fatal(err)
	}
	store, err := kvtx.Ensure(t.Context(), js, kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	var seen eventLog
	locks := kvlock.New(store, kvlock.WithObserver(&seen))
	lossy.Lose("CONSUMER.MSG.NEXT")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serves := make(chan error, 1)
	go func() { serves <- locks.ServeWakes(ctx) }()
	if _, err := js.Publish(t.Context(), store.DispatchSubject("wake", "k", "1"), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the wake is served", func() bool { return len(seen.of(kvlock.Woken)) > 0 })
	cancel()
	if err := <-serves; err != nil || !lossy.Lost() {
		t.Errorf("ServeWakes: %v; the request was lost: %v", err, lossy.Lost())
	}
}

// TestWhoSeesAPrefixOfACommitSeesTheRecordBeforeTheMessage: consumers and watches may see the first messages of a batch before the last ones. So
// whatever tells of an operation, a dispatch or a wake, stands behind all records of its commit, and the operation's record stands first.
func TestWhoSeesAPrefixOfACommitSeesTheRecordBeforeTheMessage(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	locks := kvlock.New(store)
	last := func() uint64 {
		info, err := store.Stream().Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.LastSeq
	}
	// subjects are those of one commit.
	subjects := func(commit func()) (of []string) {
		before := last()
		commit()
		for seq := before + 1; seq <= last(); seq++ {
			msg, err := store.Stream().GetMsg(t.Context(), seq)
			if err != nil {
				t.Fatalf("message %d: %v", seq, err)
			}
			of = append(of, msg.Subject)
		}
		return of
	}
	key := kvlock.Exclusive("volume.v1")
	enqueue := func(owner string, c kvlock.Claim) {
		if _, err := locks.Queue(t.Context(), owner, nil, kvlock.Wait{Dispatch: "req.node." + owner}, c); err != nil {
			t.Fatal(err)
		}
	}
	granted := subjects(func() { enqueue("op-1", key) })
	enqueue("op-2", key)
	for i := range kvlock.MaxGrants + 1 {
		enqueue(fmt.Sprintf("reader-%d", i), kvlock.Shared("volume.v1"))
	}
	first, second := adopt(t, locks, "op-1", "d1"), func() kvlock.Grant { return adopt(t, locks, "op-2", "d2") }
	release := func(g kvlock.Grant) func() {
		return func() {
			if err := locks.Release(t.Context(), g); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		subjects []string
		told     int // messages that tell of operations
	}{
		"granted at once":          {granted, 1},
		"handed over":              {subjects(release(first)), 1},
		"handed over, with a wake": {subjects(release(second())), kvlock.MaxGrants + 1},
	} {
		told := 0
		for i, subject := range c.subjects {
			switch isRecord := strings.HasPrefix(subject, "$KV."); {
			case i == 0 && !strings.HasPrefix(subject, store.Subject("op.")):
				t.Errorf("%s: the first message is %s, want an operation's record", name, subject)
			case isRecord && told > 0:
				t.Errorf("%s: %s stands behind a message that tells of an operation: %v", name, subject, c.subjects)
			case !isRecord:
				told++
			}
		}
		if told != c.told {
			t.Errorf("%s: %d messages tell of operations, want %d: %v", name, told, c.told, c.subjects)
		}
	}
}
