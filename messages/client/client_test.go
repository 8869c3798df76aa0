package client_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/client"
)

const (
	project = "demo"
	short   = 20 * time.Millisecond
	long    = time.Minute
)

// node is a responder that answers what the test says, on a server of the test.
type node struct {
	t   *testing.T
	srv *natstest.Server
	nc  *nats.Conn
}

func newNode(t *testing.T) *node {
	srv := natstest.Start(t)
	return &node{t: t, srv: srv, nc: srv.Conn(t)}
}

func (n *node) client(try, look time.Duration) *client.Client {
	n.t.Helper()
	c, err := client.New(n.srv.Conn(n.t), project, client.WithUser("ann"))
	if err != nil {
		n.t.Fatal(err)
	}
	c.Hurry(try, look)
	return c
}

// answer replies to what comes on the subject with what reply returns; nil: not at all.
func (n *node) answer(subject string, reply func(data []byte) *messages.Reply) *nats.Subscription {
	n.t.Helper()
	sub, err := n.nc.Subscribe(subject, func(msg *nats.Msg) {
		if r := reply(msg.Data); r != nil {
			if r.V == 0 {
				r.V = messages.EnvelopeVersion
			}
			_ = msg.Respond(messages.Encode(r))
		}
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.flush()
	return sub
}

func (n *node) flush() {
	n.t.Helper()
	if err := n.nc.Flush(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) tell(op messages.Operation) {
	n.t.Helper()
	u := messages.Update{V: messages.EnvelopeVersion, Operation: op}
	if err := n.nc.Publish(messages.EventSubject(project, op.Kind, op.ID), messages.Encode(u)); err != nil {
		n.t.Error(err)
	}
}

func envelope(t *testing.T, data []byte) messages.Envelope {
	t.Helper()
	var env messages.Envelope
	if err := messages.Decode(data, &env); err != nil {
		t.Error(err)
	}
	return env
}

func state(id block.OperationID, phase string) messages.Operation {
	return messages.Operation{ID: id, Kind: block.VolumeCreate, Project: project, Phase: phase, Ended: phase == "done" || phase == "undone"}
}

func requireCode(t *testing.T, err error, code messages.Code, text string) {
	t.Helper()
	if !errors.Is(err, &messages.Error{Code: code}) || !strings.Contains(err.Error(), text) {
		t.Errorf("error is %v, want code %s and %q", err, code, text)
	}
}

var create = &messages.CreateVolume{Name: "disk", SizeGiB: 1}

func TestALostAnswerIsAskedForAgainUnderTheSameID(t *testing.T) {
	t.Parallel()
	n, id := newNode(t), client.NewID()
	var mu sync.Mutex
	var seen [][]byte
	n.answer(messages.SubmitSubject(project, block.VolumeCreate), func(data []byte) *messages.Reply {
		mu.Lock()
		defer mu.Unlock()
		if seen = append(seen, data); len(seen) < 3 {
			return nil
		}
		op := state(envelope(t, data).Operation, "granted")
		return &messages.Reply{Operation: &op}
	})
	op, err := n.client(short, long).Submit(t.Context(), id, create)
	if err != nil || op.ID != id {
		t.Fatalf("Submit = %+v, %v, want operation %s", op, err, id)
	}
	mu.Lock()
	defer mu.Unlock()
	for i, data := range seen {
		if env := envelope(t, data); env.Operation != id || env.User != "ann" || !slices.Equal(data, seen[0]) {
			t.Errorf("message %d is of operation %s and user %q, want the first one again: %s, ann", i, env.Operation, env.User, id)
		}
	}
}

// It may have been read before the node was gone: that nobody is there now proves nothing.
func TestNobodyThereAfterALostAnswerIsNotNothingChanged(t *testing.T) {
	t.Parallel()
	n, id := newNode(t), client.NewID()
	subject := messages.SubmitSubject(project, block.VolumeCreate)
	read := make(chan struct{}, 1)
	first := n.answer(subject, func([]byte) *messages.Reply {
		select {
		case read <- struct{}{}:
		default:
		}
		return nil
	})
	type result struct {
		op  messages.Operation
		err error
	}
	got := make(chan result, 1)
	c := n.client(50*time.Millisecond, long)
	go func() {
		op, err := c.Submit(t.Context(), id, create)
		got <- result{op, err}
	}()
	<-read
	if err := first.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	n.flush()
	select { // long enough for several tries that nobody answers
	case r := <-got:
		t.Fatalf("Submit returned %v while it was unknown whether it was done", r.err)
	case <-time.After(300 * time.Millisecond):
	}
	n.answer(subject, func([]byte) *messages.Reply {
		op := state(id, "granted")
		return &messages.Reply{Operation: &op}
	})
	if r := <-got; r.err != nil || r.op.ID != id {
		t.Errorf("Submit = %+v, %v, want operation %s", r.op, r.err, id)
	}
}

func TestNoNodeIsUnavailableAndChangesNothing(t *testing.T) {
	t.Parallel()
	c := newNode(t).client(long, long)
	_, err := c.Submit(t.Context(), client.NewID(), create)
	requireCode(t, err, messages.CodeUnavailable, "nothing was changed")
	_, err = c.Get(t.Context(), client.NewID())
	requireCode(t, err, messages.CodeUnavailable, messages.GetSubject(project))
}

func TestARefusalComesAsItWasSaid(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	holder := &messages.Holder{Operation: client.NewID(), Kind: block.VolumeExtend, Mode: "exclusive"}
	n.answer(messages.SubmitSubject(project, block.VolumeCreate), func([]byte) *messages.Reply {
		return &messages.Reply{Error: &messages.Error{Code: messages.CodeConflict, Message: "it is held", Field: "name", Holder: holder}}
	})
	_, err := n.client(long, long).Submit(t.Context(), client.NewID(), create)
	requireCode(t, err, messages.CodeConflict, "it is held")
	refusal, ok := errors.AsType[*messages.Error](err)
	if !ok || refusal.Field != "name" || refusal.Holder == nil || refusal.Holder.Operation != holder.Operation {
		t.Errorf("refusal is %+v, want the field and the holder", refusal)
	}
}

func TestAnswersThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.answer(messages.SubmitSubject(project, block.VolumeCreate), func([]byte) *messages.Reply { return &messages.Reply{} })
	n.answer(messages.SubmitSubject(project, block.VolumeDelete), func([]byte) *messages.Reply { return &messages.Reply{V: 2} })
	if _, err := n.nc.Subscribe(messages.GetSubject(project), func(msg *nats.Msg) { _ = msg.Respond([]byte("hello")) }); err != nil {
		t.Fatal(err)
	}
	n.flush()
	c := n.client(long, long)
	_, err := c.Submit(t.Context(), client.NewID(), create)
	requireCode(t, err, messages.CodeInternal, "neither an operation nor an error")
	_, err = c.Submit(t.Context(), client.NewID(), &messages.DeleteVolume{Volume: block.VolumeID(client.NewID())})
	requireCode(t, err, messages.CodeUnsupported, "version 2")
	if _, err = c.Get(t.Context(), client.NewID()); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("Get with a foreign answer = %v", err)
	}
}

// What is wrong with a request or its ID is said before anything is sent.
func TestWrongRequestsAreNotSent(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.answer(messages.SubmitAll, func([]byte) *messages.Reply {
		t.Error("a message was sent")
		return nil
	})
	c := n.client(long, long)
	_, err := c.Submit(t.Context(), client.NewID(), &messages.CreateVolume{SizeGiB: -1})
	requireCode(t, err, messages.CodeInvalid, "size")
	for _, id := range []block.OperationID{"", "x", "0A2B3C4D-0000-4000-8000-000000000000"} {
		_, err := c.Submit(t.Context(), id, create)
		requireCode(t, err, messages.CodeInvalid, "not a UUID")
	}
	if _, err := client.New(n.nc, "a.b"); err == nil {
		t.Error("New took a project that is no token")
	}
}

// The context is the only end of a submit that nobody answers, and leaves it open what became of it.
func TestTheEndOfTheContextLeavesItOpen(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	n.answer(messages.SubmitSubject(project, block.VolumeCreate), func([]byte) *messages.Reply {
		cancel()
		return nil
	})
	_, err := n.client(long, long).Submit(ctx, client.NewID(), create)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "unknown whether it was done") {
		t.Errorf("Submit = %v, want the context's error, and that it is unknown", err)
	}
}

func TestWaitAsksUntilTheOperationIsSettled(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"done", "undone", "stuck"} {
		n, id := newNode(t), client.NewID()
		asked := 0
		n.answer(messages.GetSubject(project), func(data []byte) *messages.Reply {
			var q messages.Query
			if err := messages.Decode(data, &q); err != nil || q.Operation != id || q.Wait <= 0 || q.Wait > messages.MaxWait {
				t.Errorf("query is %+v, %v, want a wait for %s", q, err, id)
			}
			asked++
			op := state(id, map[bool]string{true: "running", false: end}[asked < 3])
			return &messages.Reply{Operation: &op}
		})
		op, err := n.client(long, long).Wait(t.Context(), id)
		if err != nil || op.Phase != end || asked != 3 {
			t.Errorf("Wait = %s, %v after %d questions, want %s after 3", op.Phase, err, asked, end)
		}
	}
}

// world is an operation as the records of a node have it.
type world struct {
	mu sync.Mutex
	op messages.Operation
}

func (w *world) set(op messages.Operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.op = op
}

func (w *world) reply([]byte) *messages.Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	op := w.op
	return &messages.Reply{Operation: &op}
}

// Updates are told as they come; what is broken or of another version is passed over.
func TestWatchTellsUpdatesUntilTheEnd(t *testing.T) {
	t.Parallel()
	n, id := newNode(t), client.NewID()
	w := &world{op: state(id, "granted")}
	n.answer(messages.GetSubject(project), w.reply)
	subject := messages.EventSubject(project, block.VolumeCreate, id)
	var phases []string
	end, err := n.client(long, long).Watch(t.Context(), id, func(op messages.Operation) {
		switch phases = append(phases, op.Phase); op.Phase {
		case "granted":
			_ = n.nc.Publish(subject, []byte("hello"))
			_ = n.nc.Publish(subject, messages.Encode(messages.Update{V: 2, Operation: state(id, "void")}))
			n.tell(state(id, "running"))
		case "running":
			n.tell(state(id, "done"))
		}
	})
	if want := []string{"granted", "running", "done"}; err != nil || end.Phase != "done" || !slices.Equal(phases, want) {
		t.Errorf("Watch = %s, %v and told %v, want %v", end.Phase, err, phases, want)
	}
}

// An update that says stuck may have been on its way when the operation was resumed: the watch goes on to its end.
func TestWatchDoesNotEndWithALateUpdate(t *testing.T) {
	t.Parallel()
	n, id := newNode(t), client.NewID()
	w := &world{op: state(id, "running")}
	n.answer(messages.GetSubject(project), w.reply)
	var phases []string
	end, err := n.client(long, long).Watch(t.Context(), id, func(op messages.Operation) {
		switch phases = append(phases, op.Phase); len(phases) {
		case 1:
			n.tell(state(id, "stuck"))
		case 2:
			w.set(state(id, "stuck"))
			n.tell(state(id, "stuck"))
		}
	})
	if want := []string{"running", "running", "stuck"}; err != nil || end.Phase != "stuck" || !slices.Equal(phases, want) {
		t.Errorf("Watch = %s, %v and told %v, want %v", end.Phase, err, phases, want)
	}
}

func TestWatchFindsTheEndWhenUpdatesAreLost(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"done", "stuck"} {
		n, id := newNode(t), client.NewID()
		w := &world{op: state(id, "running")}
		n.answer(messages.GetSubject(project), w.reply)
		told := 0
		op, err := n.client(long, short).Watch(t.Context(), id, func(op messages.Operation) {
			if told++; told == 2 {
				w.set(state(id, end)) // and no update says so
			}
		})
		if err != nil || op.Phase != end {
			t.Errorf("Watch = %s, %v, want %s", op.Phase, err, end)
		}
	}
}

func TestWatchOfASettledOperationTellsItOnce(t *testing.T) {
	t.Parallel()
	n, id := newNode(t), client.NewID()
	n.answer(messages.GetSubject(project), (&world{op: state(id, "undone")}).reply)
	told := 0
	op, err := n.client(long, long).Watch(t.Context(), id, func(messages.Operation) { told++ })
	if err != nil || op.Phase != "undone" || told != 1 {
		t.Errorf("Watch = %s, %v and told %d times, want undone, once", op.Phase, err, told)
	}
}

func TestWatchEndsWithTheContextAndWithErrors(t *testing.T) {
	t.Parallel()
	n, id := newNode(t), client.NewID()
	n.answer(messages.GetSubject(project), (&world{op: state(id, "running")}).reply)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := n.client(long, long).Watch(ctx, id, func(messages.Operation) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch = %v, want the context's error", err)
	}
	missing := newNode(t)
	missing.answer(messages.GetSubject(project), func([]byte) *messages.Reply {
		return &messages.Reply{Error: messages.Errorf(messages.CodeNotFound, "Operation %s could not be found.", id)}
	})
	_, err := missing.client(long, long).Watch(t.Context(), id, func(messages.Operation) { t.Error("something was told") })
	requireCode(t, err, messages.CodeNotFound, string(id))
}
