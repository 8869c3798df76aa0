package link_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

var errNoMessages = errors.New("no messages")

// deaf is a stream whose consumers can be made, and not be listened to.
type deaf struct{ jetstream.Stream }

type deafConsumer struct{ jetstream.Consumer }

func (d deaf) CreateConsumer(ctx context.Context, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	c, err := d.Stream.CreateConsumer(ctx, cfg)
	return deafConsumer{c}, err
}

func (deafConsumer) Messages(...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error) {
	return nil, errNoMessages
}

// TestAConsumerThatCannotBeListenedToIsRemoved: it would stay at the server until that gives it up.
func TestAConsumerThatCannotBeListenedToIsRemoved(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	server, err := link.Over(store.Conn(), deaf{store.Stream()}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := server.Consume(t.Context(), jetstream.ConsumerConfig{InactiveThreshold: time.Hour}); !errors.Is(err, errNoMessages) {
		t.Errorf("Consume = %v, want %v", err, errNoMessages)
	}
	info, err := store.Stream().Info(t.Context())
	if err != nil || info.State.Consumers != 0 {
		t.Errorf("%d consumers are left, %v", info.State.Consumers, err)
	}
}
