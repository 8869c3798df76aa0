package assembly

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
)

// answerRoom tells the processes beside this one whether the NATS server's disk has room, until the connection ends.
func answerRoom(nc *nats.Conn, short func() error) error {
	_, err := nc.Subscribe(messages.RoomSubject, func(m *nats.Msg) {
		if !messages.Inbox(m.Reply) {
			return
		}
		room := messages.Room{V: messages.EnvelopeVersion}
		if err := short(); err != nil {
			room.Short = err.Error()
		}
		_ = m.Respond(messages.Encode(room)) // who gets no answer does without what it wanted to do
	})
	return err
}

// roomLimit is how long an answer is waited for.
const roomLimit = 2 * time.Second

// askRoom returns an error if the NATS server's disk has no room, or if that cannot be learned. Servers that are not in a process of
// Scoria's answer nothing: they are asked for all.
func askRoom(nc *nats.Conn) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, roomLimit)
		defer cancel()
		m, err := nc.RequestWithContext(ctx, messages.RoomSubject, nil)
		if errors.Is(err, nats.ErrNoResponders) {
			return nil
		}
		var room messages.Room
		if err == nil {
			err = messages.Decode(m.Data, &room)
		}
		switch {
		case err != nil:
			return fmt.Errorf("whether the NATS server has room: %w", err)
		case room.Short != "":
			return errors.New(room.Short)
		}
		return nil
	}
}
