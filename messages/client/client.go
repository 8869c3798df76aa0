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

// tryTimeout bounds the wait for one answer before the same message is sent again.
const tryTimeout = 10 * time.Second

// Client submits operations of one project. Safe for concurrent use.
type Client struct {
	nc      *nats.Conn
	project string
	user    string
}

// Option changes a Client.
type Option func(*Client)

// WithUser says for whom operations are submitted.
func WithUser(user string) Option { return func(c *Client) { c.user = user } }

// New makes a client on the connection, which stays the caller's. Errors: the project is not a token.
func New(nc *nats.Conn, project string, opts ...Option) (*Client, error) {
	if err := block.CheckToken(project); err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	c := &Client{nc: nc, project: project}
	for _, opt := range opts {
		opt(c)
	}
	return c, nil
}

// NewID returns an ID for an operation.
func NewID() block.OperationID { return block.OperationID(uuid.NewString()) }

// Submit asks for an operation under the ID and returns it once it is accepted and durable. A repeated call with the same
// ID and request returns the same operation.
func (c *Client) Submit(ctx context.Context, id block.OperationID, req messages.Request) (messages.Operation, error) {
	if err := req.Validate(); err != nil {
		return messages.Operation{}, err
	}
	data := messages.Encode(messages.Envelope{
		V: messages.EnvelopeVersion, Operation: id, User: c.user, Sent: time.Now().UTC(),
		RequestVersion: req.Version(), Request: messages.Encode(req),
	})
	return c.ask(ctx, messages.SubmitSubject(c.project, req.Kind()), data, tryTimeout)
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
	return c.ask(ctx, messages.GetSubject(c.project), query, wait+tryTimeout)
}

// ask sends until it is answered. Only messages that may be repeated are sent this way.
func (c *Client) ask(ctx context.Context, subject string, data []byte, limit time.Duration) (messages.Operation, error) {
	for {
		try, cancel := context.WithTimeout(ctx, limit)
		msg, err := c.nc.RequestWithContext(try, subject, data)
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return messages.Operation{}, fmt.Errorf("%s: not answered, so it is unknown whether it was done: %w", subject, ctx.Err())
			}
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
				continue
			}
			if errors.Is(err, nats.ErrNoResponders) {
				return messages.Operation{}, messages.Errorf(messages.CodeUnavailable, "no API node answers on %s; nothing was changed", subject)
			}
			return messages.Operation{}, fmt.Errorf("%s: %w", subject, err)
		}
		var reply messages.Reply
		if err := messages.Decode(msg.Data, &reply); err != nil {
			return messages.Operation{}, err
		}
		if reply.Error != nil {
			return messages.Operation{}, reply.Error
		}
		if reply.Operation == nil {
			return messages.Operation{}, messages.Errorf(messages.CodeInternal, "%s: the answer holds neither an operation nor an error", subject)
		}
		return *reply.Operation, nil
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
			if messages.Decode(msg.Data, &u) != nil {
				continue
			}
			op = u.Operation
		case <-time.After(5 * time.Second): // updates can be lost
			if op, err = c.Get(ctx, id); err != nil {
				return op, err
			}
		}
		seen(op)
	}
	return op, nil
}
