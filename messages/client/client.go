// Package client submits operations to Scoria as messages on NATS and follows them.
//
// Nouns: a Client speaks for one project; an operation is named by an ID that the client chooses before it sends.
//
// Invariants:
//   - A submit whose answer is lost is sent again under the same ID until it is answered or the context ends, so it runs
//     once or not at all. An error from the context means: unknown; ask with Get, or submit again under the same ID.
//   - Errors that come from Scoria are *messages.Error with a code.
//
// It needs the NATS permissions to publish to scoria.v1.submit.<project>.> and scoria.v1.get.<project>, and to subscribe to
// its inbox; Watch needs scoria.v1.event.<project>.> too.
package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

const (
	// tryTimeout bounds the wait for one answer before the same message is sent again.
	tryTimeout = 10 * time.Second
	// lookInterval is how long Watch waits for an update before it asks.
	lookInterval = 5 * time.Second
	// nobodyPause is how long a message of which it is unknown whether it was read waits for somebody who answers.
	nobodyPause = 200 * time.Millisecond
)

// Client submits operations of one project. Safe for concurrent use.
type Client struct {
	nc        *nats.Conn
	project   string
	user      string
	try, look time.Duration // tryTimeout and lookInterval
}

// Option changes a Client.
type Option func(*Client)

// WithUser says for whom operations are submitted.
func WithUser(user string) Option { return func(c *Client) { c.user = user } }

// New makes a client on the connection, which stays the caller's. Errors: the project is not a token; the user is refused by
// messages.CheckPrintable.
func New(nc *nats.Conn, project string, opts ...Option) (*Client, error) {
	if err := block.CheckToken(project); err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	c := &Client{nc: nc, project: project, try: tryTimeout, look: lookInterval}
	for _, opt := range opts {
		opt(c)
	}
	if err := messages.CheckPrintable("user", c.user); err != nil {
		return nil, err
	}
	return c, nil
}

// NewID returns an ID for an operation.
func NewID() block.OperationID { return block.OperationID(uuid.NewString()) }

// Submit asks for an operation under the ID and returns it once it is accepted and durable. A repeated call with the same
// ID and request returns the same operation. The ID is a UUID, such as NewID makes: without one, a message that is sent
// again would be another operation.
func (c *Client) Submit(ctx context.Context, id block.OperationID, req messages.Request) (messages.Operation, error) {
	return c.submit(ctx, id, req, messages.OnConflict{})
}

// Queue is Submit of a request that waits in line if other operations stand in its way, wait at most; zero: for as long as it takes. The
// operation that it returns is queued then, and says what it waits for.
func (c *Client) Queue(ctx context.Context, id block.OperationID, req messages.Request, wait time.Duration) (messages.Operation, error) {
	return c.submit(ctx, id, req, messages.OnConflict{Queue: true, Wait: wait})
}

func (c *Client) submit(ctx context.Context, id block.OperationID, req messages.Request, on messages.OnConflict) (messages.Operation, error) {
	if !block.IsUUID(string(id)) {
		return messages.Operation{}, &messages.Error{Code: messages.CodeInvalid, Field: "operation",
			Message: fmt.Sprintf("operation ID %.80q is not a UUID in lower case", id)}
	}
	if err := req.Validate(); err != nil {
		return messages.Operation{}, err
	}
	data := messages.Encode(messages.Envelope{
		V: messages.EnvelopeVersion, Operation: id, User: c.user, Sent: time.Now().UTC(),
		OnConflict: on.String(), RequestVersion: req.Version(), Request: messages.Encode(req),
	})
	return c.ask(ctx, messages.SubmitSubject(c.project, req.Kind()), data, c.try)
}

// Get returns how the operation stands.
func (c *Client) Get(ctx context.Context, id block.OperationID) (messages.Operation, error) {
	return c.get(ctx, id, 0)
}

// Wait returns the operation when it has ended or is stuck.
func (c *Client) Wait(ctx context.Context, id block.OperationID) (messages.Operation, error) {
	for {
		op, err := c.get(ctx, id, messages.MaxWait/2)
		if err != nil || op.Settled() {
			return op, err
		}
	}
}

func (c *Client) get(ctx context.Context, id block.OperationID, wait time.Duration) (messages.Operation, error) {
	query := messages.Encode(messages.Query{V: messages.EnvelopeVersion, Operation: id, Wait: wait})
	return c.ask(ctx, messages.GetSubject(c.project), query, wait+c.try)
}

// ask sends until it is answered. Only messages that may be repeated are sent this way.
func (c *Client) ask(ctx context.Context, subject string, data []byte, limit time.Duration) (messages.Operation, error) {
	for unanswered := false; ; {
		try, cancel := context.WithTimeout(ctx, limit)
		msg, err := c.nc.RequestWithContext(try, subject, data)
		cancel()
		switch {
		case err == nil:
			return answer(subject, msg.Data)
		case ctx.Err() != nil:
			return messages.Operation{}, fmt.Errorf("%s: not answered, so it is unknown whether it was done: %w", subject, ctx.Err())
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
			unanswered = true
		case errors.Is(err, nats.ErrNoResponders) && unanswered: // somebody may have read it before and gone
			pause(ctx, nobodyPause)
		case errors.Is(err, nats.ErrNoResponders):
			return messages.Operation{}, messages.Errorf(messages.CodeUnavailable, "no API node answers on %s; nothing was changed", subject)
		default:
			return messages.Operation{}, fmt.Errorf("%s: %w", subject, err)
		}
	}
}

func answer(subject string, data []byte) (messages.Operation, error) {
	var reply messages.Reply
	if err := messages.Decode(data, &reply); err != nil {
		return messages.Operation{}, fmt.Errorf("%s: the answer cannot be read: %w", subject, err)
	}
	switch {
	case reply.V != messages.EnvelopeVersion:
		return messages.Operation{}, messages.Errorf(messages.CodeUnsupported, "%s: the answer has version %d, this client reads version %d",
			subject, reply.V, messages.EnvelopeVersion)
	case reply.Error != nil:
		return messages.Operation{}, reply.Error
	case reply.Operation == nil:
		return messages.Operation{}, messages.Errorf(messages.CodeInternal, "%s: the answer holds neither an operation nor an error", subject)
	}
	return *reply.Operation, nil
}

// pause ends early if ctx does.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Watch calls seen with every update of the operation as it happens, from its present state on, until it has ended or is
// stuck, and returns it as it is then. Updates may be skipped, the end is not.
func (c *Client) Watch(ctx context.Context, id block.OperationID, seen func(messages.Operation)) (messages.Operation, error) {
	op, err := c.Get(ctx, id)
	if err != nil {
		return op, err
	}
	updates := make(chan *nats.Msg, 64)
	sub, err := c.nc.ChanSubscribe(messages.EventSubject(c.project, op.Kind, id), updates)
	if err != nil {
		return op, fmt.Errorf("watch %s: %w", id, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if op, err = c.Get(ctx, id); err != nil { // again, now that no update can be missed
		return op, err
	}
	seen(op)
	for !op.Settled() {
		select {
		case <-ctx.Done():
			return op, ctx.Err()
		case msg := <-updates:
			var u messages.Update
			if messages.Decode(msg.Data, &u) != nil || u.V != messages.EnvelopeVersion {
				continue
			}
			if op = u.Operation; op.Stuck() { // it may come late, and the operation have been resumed since: its record decides
				if op, err = c.get(ctx, id, c.look); err != nil {
					return op, err
				}
			}
		case <-time.After(c.look): // updates can be lost
			if op, err = c.Get(ctx, id); err != nil {
				return op, err
			}
		}
		seen(op)
	}
	return op, nil
}
