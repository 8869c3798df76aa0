package view_test

import (
	"context"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// stack is a view on a real server, with admission and a worker that make histories.
type stack struct {
	t      testing.TB
	srv    *natstest.Server
	store  *kvtx.Store
	locks  *kvlock.Locker
	view   *view.View
	admit  *admit.Admitter
	worker *admittest.Worker
}

var unlimited = records.Limits{Volumes: records.Unlimited, Snapshots: records.Unlimited, GiB: records.Unlimited}

func newStack(t testing.TB, opts ...view.Option) *stack {
	t.Helper()
	s := &stack{t: t, srv: natstest.Start(t)}
	store, err := kvtx.Ensure(t.Context(), s.srv.JetStream(t), kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	s.store, s.locks = store, kvlock.New(store)
	s.view = s.run(opts...)
	s.worker = admittest.New(store, s.locks, "n1")
	if err := s.worker.Register(t.Context(), records.Backend{Name: "b1", Kind: "file", KeepsData: true, Reflink: true}, -1); err != nil {
		t.Fatal(err)
	}
	s.until("the backend is in the view", func() bool { _, ok := s.view.Pool("b1"); return ok })
	s.admit = admit.New(store, s.locks, s.view, admit.Defaults{Limits: unlimited}, nil)
	return s
}

// run starts a view of the store and waits until it has caught up.
func (s *stack) run(opts ...view.Option) *view.View {
	s.t.Helper()
	v, stop := s.start(opts...)
	s.t.Cleanup(stop)
	return v
}

// start is run with the end of the view in the caller's hand.
func (s *stack) start(opts ...view.Option) (v *view.View, stop func()) {
	s.t.Helper()
	v = view.New(s.store, nil, opts...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("Run = %v", err)
		}
	}
	select {
	case <-v.CaughtUp():
	case <-time.After(20 * time.Second):
		stop()
		s.t.Fatal("the view does not catch up")
	}
	return v, stop
}

func (s *stack) until(what string, cond func() bool) {
	s.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (s *stack) submit(project string, r messages.Request) admit.Accepted {
	s.t.Helper()
	acc, err := s.admit.Submit(s.t.Context(), admit.Submission{Caller: admit.Caller{Project: project, User: "u"}, Request: r})
	if err != nil {
		s.t.Fatalf("submit %s: %v", r.Kind(), err)
	}
	return acc
}

func (s *stack) end(id block.OperationID, o admittest.Outcome) {
	s.t.Helper()
	if err := s.worker.End(s.t.Context(), id, o); err != nil {
		s.t.Fatalf("end %s: %v", id, err)
	}
}

func (s *stack) newVolume(project string) block.VolumeID {
	s.t.Helper()
	acc := s.submit(project, &messages.CreateVolume{SizeGiB: 1})
	s.end(acc.Operation, admittest.Succeed)
	if _, err := s.view.WaitEnded(s.t.Context(), acc.Operation); err != nil {
		s.t.Fatal(err)
	}
	return block.VolumeID(acc.Resource)
}

// put writes records that nobody submitted, in commits of many.
func (s *stack) put(n int, key func(int) string, value func(int) []byte) kvtx.Revision {
	s.t.Helper()
	var last kvtx.Revision
	for i := 0; i < n; {
		var tx kvtx.Tx
		for ; i < n && tx.Len() < 400; i++ {
			tx.Put(key(i), value(i), 0)
		}
		res, err := s.store.Commit(s.t.Context(), &tx)
		if err != nil {
			s.t.Fatal(err)
		}
		last = res.Last()
	}
	return last
}
