// Package ingest takes operations that programs submit as messages, and answers their questions.
//
// Nouns: an envelope carries a request; a reply accepts or refuses it. Both are in package messages.
//
// Invariants:
//   - A message takes the same way as an HTTP request: one admission, the same checks and the same errors.
//   - Answers go to inboxes alone, whatever reply subject a message names.
//   - Each message gets one reply; a message that cannot be read gets one that says why, and changes nothing.
//   - A message older than half of the idempotency window is refused: its operation may have been forgotten, and it
//     would run twice.
//
// It does not retry: the client sends again under the same operation ID.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// Submitter admits operations.
type Submitter interface {
	Submit(ctx context.Context, s admit.Submission) (admit.Accepted, error)
}

// Reader tells how operations stand.
type Reader interface {
	Wait(ctx context.Context, rev kvtx.Revision) error
	Lookup(ctx context.Context, id block.OperationID) (*view.Operation, error)
	WaitEnded(ctx context.Context, id block.OperationID) (*view.Operation, error)
	// Waits is what those of the operations wait for that are queued.
	Waits(ops ...*view.Operation) map[block.OperationID]*messages.Waits
}

// Config of the ingest.
type Config struct {
	// Window is how long ended operations are remembered: the idempotency window.
	Window time.Duration
	// InFlight bounds the messages that are worked on at the same time; more are refused as busy. 0: 1024.
	InFlight int
}

// readLimit bounds what a message waits for the read side, so that a stream that does not answer does not keep all slots taken.
const readLimit = 10 * time.Second

// maxClockLead is how far a client's clock may be ahead.
const maxClockLead = 5 * time.Minute

// Ingest serves one API node.
type Ingest struct {
	cfg    Config
	admit  Submitter
	reader Reader
	log    *slog.Logger
	slots  chan struct{}
	work   sync.WaitGroup
}

// New makes an Ingest. A nil log discards.
func New(cfg Config, submitter Submitter, reader Reader, log *slog.Logger) *Ingest {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.InFlight <= 0 {
		cfg.InFlight = 1024
	}
	return &Ingest{cfg: cfg, admit: submitter, reader: reader, log: log, slots: make(chan struct{}, cfg.InFlight)}
}

// Run serves until the context ends, and returns when every message that was taken is answered. ready is called once it serves.
func (i *Ingest) Run(ctx context.Context, nc *nats.Conn, ready func()) (err error) {
	defer i.work.Wait()
	for subject, answer := range map[string]answerer{messages.SubmitAll: i.submit, messages.GetAll: i.get} {
		stop, errSub := i.serve(ctx, nc, subject, answer)
		if errSub != nil {
			return errSub
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	return nil
}

// answerer makes the reply to a message.
type answerer func(context.Context, *nats.Msg) messages.Reply

// serve takes the messages of a subject until stop has returned.
func (i *Ingest) serve(ctx context.Context, nc *nats.Conn, subject string, answer answerer) (stop func() error, err error) {
	sub, err := nc.QueueSubscribe(subject, messages.QueueGroup, func(msg *nats.Msg) { i.take(ctx, msg, answer) })
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	taken := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(taken) }) // called after the last message: Unsubscribe alone does not wait for it
	return func() error {
		if err := sub.Unsubscribe(); err != nil {
			return err // the connection is closed: nothing comes any more
		}
		<-taken
		return nil
	}, nil
}

// take works on a message in a goroutine of its own, so that those that wait for the same commit wait together.
func (i *Ingest) take(ctx context.Context, msg *nats.Msg, answer answerer) {
	if !messages.Inbox(msg.Reply) { // nobody, or somebody who would have this node write where it may not itself
		if msg.Reply != "" {
			i.log.Warn("message dropped: its reply subject is no inbox", "subject", msg.Subject)
		}
		return
	}
	select {
	case i.slots <- struct{}{}:
	default:
		i.reply(msg, i.refusal(msg, messages.Errorf(messages.CodeBusy, "this node works on %d messages already; nothing was changed, send it again", cap(i.slots))))
		return
	}
	i.work.Add(1)
	go func() {
		defer func() { <-i.slots; i.work.Done() }()
		i.reply(msg, answer(ctx, msg))
	}()
}

func (i *Ingest) reply(msg *nats.Msg, r messages.Reply) {
	r.V = messages.EnvelopeVersion
	if err := msg.Respond(messages.Encode(r)); err != nil {
		i.log.Warn("reply not sent", "subject", msg.Subject, "error", err)
	}
}

// refusal is the answer that says why not. What is this node's fault stands in its log, too.
func (i *Ingest) refusal(msg *nats.Msg, err error) messages.Reply {
	e := messages.AsError(err)
	if e.Code == messages.CodeInternal {
		i.log.Error("request not answered", "subject", msg.Subject, "error", err)
	}
	return messages.Reply{Error: e}
}

func (i *Ingest) submit(ctx context.Context, msg *nats.Msg) messages.Reply {
	s, err := i.submission(msg)
	if err != nil {
		return i.refusal(msg, err)
	}
	accepted, err := i.admit.Submit(ctx, s)
	if err != nil {
		return i.refusal(msg, err)
	}
	if err := i.show(ctx, accepted.Revision); err != nil { // accepted all the same: the reply says what is known
		i.log.WarnContext(ctx, "read side is behind", "operation", accepted.Operation, "error", err)
	}
	if op, err := i.lookup(ctx, accepted.Operation); err == nil {
		return i.standing(op)
	}
	return messages.Reply{Operation: &messages.Operation{
		ID: accepted.Operation, Kind: s.Request.Kind(), Project: s.Caller.Project, User: s.Caller.User, Resource: accepted.Resource, Phase: "granted",
	}}
}

func (i *Ingest) submission(msg *nats.Msg) (admit.Submission, error) {
	project, kind, err := messages.ParseSubmit(msg.Subject)
	if err != nil {
		return admit.Submission{}, err
	}
	var env messages.Envelope
	if err := messages.Decode(msg.Data, &env); err != nil {
		return admit.Submission{}, err
	}
	if err := env.Validate(); err != nil {
		return admit.Submission{}, err
	}
	if err := i.checkSent(env.Sent); err != nil {
		return admit.Submission{}, err
	}
	req, err := messages.DecodeRequest(kind, max(env.RequestVersion, 1), env.Request)
	if err != nil {
		return admit.Submission{}, err
	}
	return admit.Submission{
		Caller:    admit.Caller{Project: project, User: env.User, RequestID: env.RequestID},
		Operation: env.Operation, OnConflict: env.OnConflict, Request: req,
	}, nil
}

// checkSent refuses a message that is too old to be known still if it was seen before, and one from the future. The time itself is named, because
// one that is centuries away has no duration.
func (i *Ingest) checkSent(sent time.Time) error {
	refuse := func(why string, args ...any) error {
		return &messages.Error{Code: messages.CodeInvalid, Field: "sent",
			Message: "the message says that it was sent at " + sent.UTC().Format(time.RFC3339) + ": " + fmt.Sprintf(why, args...)}
	}
	now, limit := time.Now(), i.cfg.Window/2
	switch {
	case sent.IsZero():
		return nil
	case sent.Before(now.Add(-limit)):
		return refuse("one older than %s is refused, because its operation may have run and been forgotten; here it is %s", limit, now.UTC().Format(time.RFC3339))
	case sent.After(now.Add(maxClockLead)):
		return refuse("that is in the future; here it is %s: set the client's clock", now.UTC().Format(time.RFC3339))
	}
	return nil
}

func (i *Ingest) get(ctx context.Context, msg *nats.Msg) messages.Reply {
	project, err := messages.ParseGet(msg.Subject)
	if err != nil {
		return i.refusal(msg, err)
	}
	var q messages.Query
	if err := messages.Decode(msg.Data, &q); err != nil {
		return i.refusal(msg, err)
	}
	op, err := i.find(ctx, project, q)
	if err != nil {
		return i.refusal(msg, err)
	}
	return i.standing(op)
}

// standing tells how an operation stands.
func (i *Ingest) standing(op *view.Operation) messages.Reply {
	shown := op.Operation
	shown.Waits = i.reader.Waits(op)[op.ID]
	return messages.Reply{Operation: &shown}
}

// show waits until the read side shows what was committed up to rev.
func (i *Ingest) show(ctx context.Context, rev kvtx.Revision) error {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	return i.reader.Wait(ctx, rev)
}

func (i *Ingest) lookup(ctx context.Context, id block.OperationID) (*view.Operation, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	return i.reader.Lookup(ctx, id)
}

func (i *Ingest) find(ctx context.Context, project string, q messages.Query) (*view.Operation, error) {
	if err := messages.CheckVersion("query", q.V); err != nil {
		return nil, err
	}
	op, err := i.lookup(ctx, q.Operation)
	switch {
	case errors.Is(err, view.ErrNotFound) || err == nil && op.Project != project:
		return nil, messages.OperationNotFound(q.Operation)
	case err != nil:
		return nil, messages.Errorf(messages.CodeUnavailable, "operation %s could not be looked up: %v", q.Operation, err)
	case q.Wait <= 0 || op.Settled():
		return op, nil
	}
	wait, cancel := context.WithTimeout(ctx, min(q.Wait, messages.MaxWait))
	defer cancel()
	if ended, err := i.reader.WaitEnded(wait, q.Operation); err == nil {
		return ended, nil
	}
	if now, err := i.lookup(ctx, q.Operation); err == nil {
		return now, nil
	}
	return op, nil
}
