package ingest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/ingest"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/client"
	"github.com/scoria-storage/scoria/messages/records"
)

const (
	project = "demo"
	limit   = 20 * time.Second
)

// stack is an Ingest with real admission, a real view and a worker in the place of volume nodes.
type stack struct {
	t      *testing.T
	nc     *nats.Conn
	view   *view.View
	worker *admittest.Worker
	stop   func() <-chan error // ends Run
}

type submitter func(context.Context, admit.Submission) (admit.Accepted, error)

func (s submitter) Submit(ctx context.Context, sub admit.Submission) (admit.Accepted, error) {
	return s(ctx, sub)
}

type options struct {
	cfg    ingest.Config
	before func()                                         // each submission
	reader func(ingest.Reader, *kvtx.Store) ingest.Reader // nil: the view itself
}

func newStack(t *testing.T, o options) *stack {
	t.Helper()
	srv := natstest.Start(t)
	store := srv.Store(t)
	locks := kvlock.New(store)
	v := view.New(store, nil)
	background(t, v.Run)
	worker := admittest.New(store, locks, "n1")
	if err := worker.Register(t.Context(), records.Backend{Name: "b1", Kind: "file", KeepsData: true}, -1); err != nil {
		t.Fatal(err)
	}
	until(t, "the backend is in the view", func() bool { _, ok := v.Pool("b1"); return ok })
	a := admit.New(store, locks, v, admit.Defaults{}, nil)
	reader := ingest.Reader(v)
	if o.reader != nil {
		reader = o.reader(v, store)
	}
	if o.cfg.Window == 0 {
		o.cfg.Window = time.Hour
	}
	in := ingest.New(o.cfg, submitter(func(ctx context.Context, s admit.Submission) (admit.Accepted, error) {
		if o.before != nil {
			o.before()
		}
		return a.Submit(ctx, s)
	}), reader, nil)
	s := &stack{t: t, nc: srv.Conn(t), view: v, worker: worker}
	ready, nc := make(chan struct{}), srv.Conn(t)
	s.stop = background(t, func(ctx context.Context) error { return in.Run(ctx, nc, func() { close(ready) }) })
	<-ready
	return s
}

// background runs until stop is called or the test ends, and must end without an error.
func background(t *testing.T, run func(context.Context) error) (stop func() <-chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if err != nil {
			t.Errorf("ended with %v", err)
		}
		done <- err
		close(done)
	}()
	stop = func() <-chan error { cancel(); return done }
	t.Cleanup(func() { <-stop() })
	return stop
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for !cond() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (s *stack) ask(subject string, data []byte) messages.Reply {
	s.t.Helper()
	msg, err := s.nc.Request(subject, data, limit)
	if err != nil {
		s.t.Fatalf("%s: %v", subject, err)
	}
	var r messages.Reply
	if err := messages.Decode(msg.Data, &r); err != nil {
		s.t.Fatal(err)
	}
	if r.V != messages.EnvelopeVersion || (r.Error == nil) == (r.Operation == nil) {
		s.t.Fatalf("reply %+v, want this version and either an error or an operation", r)
	}
	return r
}

func envelope(id block.OperationID, req messages.Request) messages.Envelope {
	return messages.Envelope{V: messages.EnvelopeVersion, Operation: id, User: "ann", Request: messages.Encode(req), Sent: time.Now()}
}

func (s *stack) submit(env messages.Envelope) messages.Reply {
	s.t.Helper()
	return s.ask(messages.SubmitSubject(project, block.VolumeCreate), messages.Encode(env))
}

func (s *stack) get(q messages.Query) messages.Reply {
	s.t.Helper()
	return s.ask(messages.GetSubject(project), messages.Encode(q))
}

func requireRefused(t *testing.T, what string, r messages.Reply, code messages.Code, text string) {
	t.Helper()
	if r.Error == nil || r.Error.Code != code || !strings.Contains(r.Error.Message, text) {
		t.Errorf("%s: answered %+v and operation %+v, want code %s and %q", what, r.Error, r.Operation, code, text)
	}
}

var create = &messages.CreateVolume{Name: "disk", SizeGiB: 1}

func TestASubmittedOperationIsOneHoweverOftenItIsSent(t *testing.T) {
	t.Parallel()
	s, id := newStack(t, options{}), client.NewID()
	first := s.submit(envelope(id, create)).Operation
	if first == nil || first.ID != id || first.Project != project || first.User != "ann" || first.Phase != "granted" || first.Resource == "" {
		t.Fatalf("accepted %+v, want operation %s of %s, granted", first, id, project)
	}
	if again := s.submit(envelope(id, create)).Operation; again == nil || again.ID != id || again.Resource != first.Resource {
		t.Errorf("sent again: %+v, want the same operation", again)
	}
	requireRefused(t, "same ID, other request", s.submit(envelope(id, &messages.CreateVolume{Name: "other", SizeGiB: 1})), messages.CodeReused, string(id))
	if err := s.worker.End(t.Context(), id, admittest.Succeed); err != nil {
		t.Fatal(err)
	}
	if _, err := s.view.WaitEnded(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if ended := s.submit(envelope(id, create)).Operation; ended == nil || !ended.Ended || ended.Phase != "done" {
		t.Errorf("sent again after the end: %+v, want how it ended", ended)
	}
	if n := count(s); n != 1 {
		t.Errorf("there are %d volumes, want 1", n)
	}
}

func count(s *stack) (n int) {
	for range s.view.Volumes("") {
		n++
	}
	return n
}

func TestMessagesThatCannotBeTakenAreAnsweredAndChangeNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	with := func(change func(*messages.Envelope)) []byte {
		env := envelope(client.NewID(), create)
		change(&env)
		return messages.Encode(env)
	}
	good := with(func(*messages.Envelope) {})
	subject := messages.SubmitSubject(project, block.VolumeCreate)
	for _, c := range []struct {
		what, subject string
		data          []byte
		code          messages.Code
		text          string
	}{
		{"no bytes", subject, nil, messages.CodeInvalid, "empty"},
		{"foreign bytes", subject, []byte(`{"volume": {}}`), messages.CodeInvalid, "not MessagePack"},
		{"cut off", subject, good[:len(good)-1], messages.CodeInvalid, "too early"},
		{"large", subject, make([]byte, messages.MaxSize+1), messages.CodeTooLarge, "bytes"},
		{"newer envelope", subject, with(func(e *messages.Envelope) { e.V = 2 }), messages.CodeUnsupported, "version 2"},
		{"newer request", subject, with(func(e *messages.Envelope) { e.RequestVersion = 2 }), messages.CodeUnsupported, "version 2"},
		{"broken request", subject, with(func(e *messages.Envelope) { e.Request = []byte{1} }), messages.CodeInvalid, "not a map"},
		{"wrong field", subject, with(func(e *messages.Envelope) { e.Request = messages.Encode(&messages.CreateVolume{SizeGiB: -1}) }), messages.CodeInvalid, "size"},
		{"ID that is none", subject, with(func(e *messages.Envelope) { e.Operation = "op.1" }), messages.CodeInvalid, "UUID"},
		{"unknown policy", subject, with(func(e *messages.Envelope) { e.OnConflict = "wait" }), messages.CodeInvalid, "on_conflict"},
		{"old", subject, with(func(e *messages.Envelope) { e.Sent = time.Now().Add(-31 * time.Minute) }), messages.CodeInvalid, "may have run and been forgotten"},
		{"of the future", subject, with(func(e *messages.Envelope) { e.Sent = time.Now().Add(time.Hour) }), messages.CodeInvalid, "clock"},
		{"of the last year", subject, with(func(e *messages.Envelope) { e.Sent = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }), messages.CodeInvalid,
			"sent at 9999-12-31T23:59:59Z: that is in the future"},
		{"of the first year", subject, with(func(e *messages.Envelope) { e.Sent = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC) }), messages.CodeInvalid, "sent at 0001-01-02T00:00:00Z: one older than 30m0s"},
		{"user with an escape", subject, with(func(e *messages.Envelope) { e.User = "ann\x1b[2J" }), messages.CodeInvalid, "user"},
		{"long user", subject, with(func(e *messages.Envelope) { e.User = strings.Repeat("a", 256) }), messages.CodeInvalid, "user"},
		{"request ID of two lines", subject, with(func(e *messages.Envelope) { e.RequestID = "req-1\nreq-2" }), messages.CodeInvalid, "request_id"},
		{"unknown kind", "scoria.v1.submit.demo.volume.paint", good, messages.CodeUnsupported, "volume.paint"},
		{"no kind", "scoria.v1.submit.demo", good, messages.CodeInvalid, "want"},
		{"bad project", "scoria.v1.submit.de%mo.volume.create", good, messages.CodeInvalid, "want"},
		{"question that is none", messages.GetSubject(project), []byte("hello"), messages.CodeInvalid, "not MessagePack"},
		{"newer question", messages.GetSubject(project), messages.Encode(messages.Query{V: 2}), messages.CodeUnsupported, "version 2"},
	} {
		requireRefused(t, c.what, s.ask(c.subject, c.data), c.code, c.text)
	}
	if n := count(s); n != 0 {
		t.Errorf("there are %d volumes, want none", n)
	}
}

func TestQuestionsAreAnsweredForTheProjectAlone(t *testing.T) {
	t.Parallel()
	s, id := newStack(t, options{}), client.NewID()
	s.submit(envelope(id, create))
	query := messages.Query{V: messages.EnvelopeVersion, Operation: id}
	if op := s.get(query).Operation; op == nil || op.ID != id || op.Ended {
		t.Errorf("asked for %s and got %+v", id, op)
	}
	requireRefused(t, "another project", s.ask(messages.GetSubject("other"), messages.Encode(query)), messages.CodeNotFound, string(id))
	query.Operation = client.NewID()
	requireRefused(t, "unknown", s.get(query), messages.CodeNotFound, string(query.Operation))
	query.Operation = "op.1"
	requireRefused(t, "no ID", s.get(query), messages.CodeNotFound, "op.1")
}

func TestAQuestionMayWaitForTheEnd(t *testing.T) {
	t.Parallel()
	s, id := newStack(t, options{}), client.NewID()
	s.submit(envelope(id, create))
	if op := s.get(messages.Query{V: messages.EnvelopeVersion, Operation: id, Wait: time.Millisecond}).Operation; op == nil || op.Settled() {
		t.Errorf("the wait was over and the answer is %+v, want how it stands", op)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.worker.End(context.WithoutCancel(t.Context()), id, admittest.Stick) }()
	if op := s.get(messages.Query{V: messages.EnvelopeVersion, Operation: id, Wait: limit}).Operation; op == nil || !op.Stuck() {
		t.Errorf("waited and got %+v, want it stuck", op)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// forgetful has no operation in memory, as a view has not that ended long ago.
type forgetful struct {
	ingest.Reader
	empty *view.View
}

func (f forgetful) Lookup(ctx context.Context, id block.OperationID) (*view.Operation, error) {
	return f.empty.Lookup(ctx, id)
}

// The view keeps some ended operations in memory; the others are still there.
func TestAnEndedOperationIsFoundForAsLongAsItsRecordIsKept(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{reader: func(r ingest.Reader, store *kvtx.Store) ingest.Reader { return forgetful{r, view.New(store, nil)} }})
	id := client.NewID()
	s.submit(envelope(id, create))
	if err := s.worker.End(t.Context(), id, admittest.Succeed); err != nil {
		t.Fatal(err)
	}
	if op := s.get(messages.Query{V: messages.EnvelopeVersion, Operation: id}).Operation; op == nil || op.Phase != "done" {
		t.Errorf("asked and got %+v, want it done", op)
	}
	if op := s.submit(envelope(id, create)).Operation; op == nil || op.Phase != "done" {
		t.Errorf("sent again and got %+v, want it done", op)
	}
}

func TestTooManyMessagesAtOnceAreRefused(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	s := newStack(t, options{cfg: ingest.Config{InFlight: 2}, before: func() { entered <- struct{}{}; <-leave }})
	inbox := nats.NewInbox()
	replies, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		msg := messages.Encode(envelope(client.NewID(), create))
		if err := s.nc.PublishRequest(messages.SubmitSubject(project, block.VolumeCreate), inbox, msg); err != nil {
			t.Fatal(err)
		}
		<-entered
	}
	requireRefused(t, "the third", s.submit(envelope(client.NewID(), create)), messages.CodeBusy, "nothing was changed")
	close(leave)
	for range 2 {
		if _, err := replies.NextMsg(limit); err != nil {
			t.Errorf("a message that was taken is not answered: %v", err)
		}
	}
}

func TestTheEndAnswersWhatWasTaken(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	s := newStack(t, options{before: func() { close(entered); <-leave }})
	answered := make(chan error, 1)
	go func() {
		_, err := s.nc.Request(messages.SubmitSubject(project, block.VolumeCreate), messages.Encode(envelope(client.NewID(), create)), limit)
		answered <- err
	}()
	<-entered
	done := s.stop()
	until(t, "nobody takes messages any more", func() bool {
		_, err := s.nc.Request(messages.GetSubject(project), messages.Encode(messages.Query{V: messages.EnvelopeVersion}), time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	})
	select {
	case <-done:
		t.Fatal("Run returned before the message was answered")
	default:
	}
	close(leave)
	<-done
	if err := <-answered; err != nil {
		t.Errorf("the message that was taken is not answered: %v", err)
	}
}
