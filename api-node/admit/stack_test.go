package admit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/messages/withdraw"
)

// stack is an API node's admission and view on a real server, and a worker in the place of a volume node.
type stack struct {
	t      *testing.T
	store  *kvtx.Store
	locks  *kvlock.Locker
	view   *view.View
	admit  *admit.Admitter
	worker *admittest.Worker
	faults *kvlocktest.Faults
	srv    *natstest.Server
	hook   atomic.Pointer[func(kvtx.Call)] // called before each exchange of the store
}

var alice = admit.Caller{Project: "p1", User: "alice", RequestID: "req-1"}

// newStack has one backend without bound, b1, that keeps data.
func newStack(t *testing.T, limits records.Limits, opts ...kvtx.Option) *stack {
	t.Helper()
	srv := natstest.Start(t)
	s := &stack{t: t, srv: srv, faults: &kvlocktest.Faults{}}
	opts = append(opts, kvtx.WithInterceptor(func(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
		if hook := s.hook.Load(); hook != nil {
			(*hook)(call)
		}
		return s.faults.Intercept(ctx, call, next)
	}))
	store, err := kvtx.Ensure(t.Context(), srv.JetStream(t), kvtx.Config{}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	s.store, s.locks = store, kvlock.New(store, kvlock.WithLeft(withdraw.Into("api")))
	s.view = view.New(store, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.view.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("view.Run = %v", err)
		}
		_ = store.Close()
	})
	s.worker = admittest.New(store, s.locks, "n1")
	s.register(records.Backend{Name: "b1", Kind: "file", Fencing: "node", Reflink: true, KeepsData: true}, -1)
	s.admit = admit.New(store, s.locks, s.view, admit.Defaults{Limits: limits}, nil)
	return s
}

// roomy is a quota that does not get in the way.
var roomy = records.Limits{Volumes: records.Unlimited, Snapshots: records.Unlimited, GiB: records.Unlimited}

func (s *stack) register(b records.Backend, gib block.GiB) {
	s.t.Helper()
	if err := s.worker.Register(s.t.Context(), b, gib); err != nil {
		s.t.Fatal(err)
	}
	s.until("backend "+b.Name+" is in the view", func() bool { _, ok := s.view.Pool(b.Name); return ok })
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

func (s *stack) submitAs(c admit.Caller, op block.OperationID, r messages.Request) (admit.Accepted, error) {
	return s.admit.Submit(s.t.Context(), admit.Submission{Caller: c, Operation: op, Request: r})
}

func (s *stack) submit(r messages.Request) admit.Accepted {
	s.t.Helper()
	acc, err := s.submitAs(alice, "", r)
	if err != nil {
		s.t.Fatalf("submit %s: %v", r.Kind(), err)
	}
	return acc
}

// run submits, ends and waits for the view.
func (s *stack) run(r messages.Request, o admittest.Outcome) admit.Accepted {
	s.t.Helper()
	acc := s.submit(r)
	s.end(acc.Operation, o)
	return acc
}

func (s *stack) end(id block.OperationID, o admittest.Outcome) {
	s.t.Helper()
	if err := s.worker.End(s.t.Context(), id, o); err != nil {
		s.t.Fatalf("end %s: %v", id, err)
	}
	if _, err := s.view.WaitEnded(s.t.Context(), id); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stack) newVolume() block.VolumeID {
	s.t.Helper()
	return block.VolumeID(s.run(&messages.CreateVolume{SizeGiB: 1}, admittest.Succeed).Resource)
}

func (s *stack) newSnapshot(v block.VolumeID) block.SnapshotID {
	s.t.Helper()
	return block.SnapshotID(s.run(&messages.CreateSnapshot{Volume: v}, admittest.Succeed).Resource)
}

func (s *stack) newAttachment(v block.VolumeID) block.AttachmentID {
	s.t.Helper()
	return block.AttachmentID(s.run(&messages.AttachVolume{Volume: v, Instance: "vm"}, admittest.Succeed).Resource)
}

func (s *stack) volume(id block.VolumeID) block.Volume {
	s.t.Helper()
	return load[block.Volume](s, records.VolumeKey(id))
}

func load[T records.Record](s *stack, key string) T {
	s.t.Helper()
	e, err := s.store.Get(s.t.Context(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	if !e.Exists {
		s.t.Fatalf("%s does not exist", key)
	}
	r, err := records.Decode[T](e.Value)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// bucket is every key with its revision, receipts left out, and the last sequence of the dispatches.
func (s *stack) bucket() string {
	s.t.Helper()
	var b bytes.Buffer
	err := s.store.Scan(s.t.Context(), ">", func(e kvtx.Entry) error {
		if !strings.HasPrefix(e.Key, "rcpt.") && !strings.HasPrefix(e.Key, "chk.") {
			fmt.Fprintf(&b, "%s %d\n", e.Key, e.Revision)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(&b, "dispatches %d\n", s.dispatches())
	return b.String()
}

// dispatches counts the messages that wait for volume nodes.
func (s *stack) dispatches() int {
	s.t.Helper()
	info, err := s.store.Stream().Info(s.t.Context(), jetstream.WithSubjectFilter(s.store.DispatchSubject(">")))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(info.State.Subjects)
}

// sound checks the books: quotas less credits and pools equal the sums over the records, and locks equal live operations.
func (s *stack) sound() {
	s.t.Helper()
	kvlocktest.RequireSound(s.t, s.locks)
	use, sum := map[string]records.Usage{}, map[string]records.Usage{}
	pools, reserved := map[string]block.GiB{}, map[string]block.GiB{}
	err := s.store.Scan(s.t.Context(), ">", func(e kvtx.Entry) error {
		class, _ := records.Classify(e.Key)
		switch class {
		case records.ClassVolume:
			v := must(records.Decode[block.Volume](e.Value))
			sum[v.Project] = sum[v.Project].Add(records.Usage{Volumes: 1, GiB: v.ChargedGiB})
			reserved[v.Backend] += v.ReservedGiB
		case records.ClassSnapshot:
			n := must(records.Decode[block.Snapshot](e.Value))
			sum[n.Project] = sum[n.Project].Add(records.Usage{Snapshots: 1, GiB: n.SizeGiB})
		case records.ClassQuota:
			q := must(records.Decode[records.Quota](e.Value))
			use[q.Project] = use[q.Project].Add(q.Use)
		case records.ClassCredit:
			c := must(records.Decode[records.Credit](e.Value))
			use[c.Project] = use[c.Project].Sub(c.Back)
		case records.ClassPool:
			p := must(records.Decode[records.Pool](e.Value))
			pools[p.Backend] = p.AllocatedGiB
		case records.ClassAttachment, records.ClassBackend, records.ClassNode, records.ClassOther:
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for p := range use {
		if use[p] != sum[p] {
			s.t.Errorf("project %s: quota less credits is %+v, the records sum up to %+v", p, use[p], sum[p])
		}
	}
	for p := range sum {
		if _, ok := use[p]; !ok {
			s.t.Errorf("project %s has records and no quota", p)
		}
	}
	for b := range pools {
		if pools[b] != reserved[b] {
			s.t.Errorf("pool %s: %d GiB allocated, the volumes reserve %d GiB", b, pools[b], reserved[b])
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// wantRefused checks code and text; text may end in "…" for a beginning.
func wantRefused(t *testing.T, err error, code messages.Code, text string) *messages.Error {
	t.Helper()
	e, ok := errors.AsType[*messages.Error](err)
	if !ok {
		t.Fatalf("error = %v (%T), want a *messages.Error with code %s", err, err, code)
	}
	prefix, begins := strings.CutSuffix(text, "…")
	if e.Code != code || begins && !strings.HasPrefix(e.Message, prefix) || !begins && e.Message != text {
		t.Fatalf("refused with %s: %q\nwant         %s: %q", e.Code, e.Message, code, text)
	}
	return e
}

func newOp() block.OperationID { return block.OperationID(uuid.NewString()) }
