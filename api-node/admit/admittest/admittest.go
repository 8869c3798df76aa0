// Package admittest helps to test what submits operations: a Worker takes the place of a volume node.
//
// A Worker ends operations in the records as a volume node does, each with the locks, the credits and the resources in one
// commit, and touches no backend.
//
// Invariants: after an operation that a Worker has ended, quotas less credits and pools equal the sums over the records, and no lock
// names an operation that has ended.
//
// It does not check what operations are asked for: that is what the tests of volume nodes do.
package admittest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// Outcome is how a Worker ends an operation.
type Outcome uint8

const (
	// Succeed ends it done.
	Succeed Outcome = iota
	// Fail ends it undone.
	Fail
	// Stick leaves it stuck.
	Stick
)

// ErrTest is what operations that fail or stick say.
var ErrTest = errors.New("the test wants it so")

// Worker ends operations. It is safe for concurrent use.
type Worker struct {
	store *kvtx.Store
	locks *kvlock.Locker
	node  string
	exec  *saga.Executor

	mu       sync.Mutex
	outcomes map[string]Outcome
	tokens   int
}

// New returns a Worker of the node.
func New(store *kvtx.Store, locks *kvlock.Locker, node string) *Worker {
	w := &Worker{store: store, locks: locks, node: node, outcomes: map[string]Outcome{}}
	reg := &saga.Registry{}
	for _, k := range block.Kinds() {
		saga.MustRegister(reg, w.definition(k))
	}
	w.exec = saga.New(nil, reg)
	return w
}

// Register makes the node and one backend known that it serves, or served if the backend names another node: a pool of gib GiB, without bound if
// it is negative.
func (w *Worker) Register(ctx context.Context, b records.Backend, gib block.GiB) error {
	b.Node, b.NodeName = cmp.Or(b.Node, w.node), cmp.Or(b.NodeName, w.node)
	pool := records.Pool{Backend: b.Name, TotalBytes: -1, FreeBytes: -1, Ratio: 1}
	if gib >= 0 {
		pool.TotalBytes, pool.FreeBytes = gib.Bytes(), gib.Bytes()
	}
	keys := []string{records.NodeKey(w.node), records.BackendKey(b.Name), records.PoolKey(b.Name)}
	_, err := w.store.Update(ctx, keys, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		n, err := read[records.Node](s, keys[0])
		if err != nil {
			return err
		}
		n.val.Name, n.val.ID, n.val.Backends = w.node, w.node, append(n.val.Backends, b.Name)
		put(tx, n)
		for _, key := range keys[1:] {
			e, err := s.Get(key)
			if err != nil {
				return err
			}
			if key == keys[1] {
				tx.Put(key, records.Encode(b), e.Revision)
			} else {
				tx.Put(key, records.Encode(pool), e.Revision)
			}
		}
		return nil
	})
	return err
}

// End takes the operation over and drives it to its outcome.
func (w *Worker) End(ctx context.Context, id block.OperationID, o Outcome) error {
	w.mu.Lock()
	w.outcomes[string(id)] = o
	w.tokens++
	token := fmt.Sprintf("%s-%d", w.node, w.tokens)
	w.mu.Unlock()
	g, rec, err := w.locks.Adopt(ctx, string(id), w.node, token)
	if err != nil {
		return err
	}
	log, err := sagakv.Attach(w.store, w.locks, g, rec)
	if err != nil {
		return err
	}
	op, err := records.Decode[records.Operation](log.Request())
	if err != nil {
		return err
	}
	st, err := w.exec.Run(ctx, log, string(op.Kind), 0, job{Kind: op.Kind, Request: op.Request})
	if err != nil {
		return err
	}
	if want := map[Outcome]saga.Phase{Succeed: saga.Done, Fail: saga.Undone, Stick: saga.Stuck}[o]; st.Phase != want {
		return fmt.Errorf("operation %s ended %s, want %s", id, st.Phase, want)
	}
	return nil
}

// Run consumes the dispatches of all backends and ends the operations well, each after what before returns, until ctx
// ends. before may be nil.
func (w *Worker) Run(ctx context.Context, workers int, before func(block.OperationID)) error {
	c, err := w.store.Stream().CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: w.store.DispatchSubject("req", ">"), AckPolicy: jetstream.AckExplicitPolicy, MemoryStorage: true,
	})
	if err != nil {
		return err
	}
	msgs, err := c.Messages(jetstream.PullMaxMessages(2 * workers))
	if err != nil {
		return err
	}
	defer msgs.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, workers)
	for {
		msg, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil // ctx ended
		}
		id := operationOf(msg.Subject())
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if before != nil {
				before(id)
			}
			if err := w.End(ctx, id, Succeed); err == nil || errors.Is(err, kvlock.ErrEnded) {
				_ = msg.Ack()
			}
		})
	}
}

// job is the state of the sagas.
type job struct {
	Kind    block.Kind `msgpack:"kind"`
	Request []byte     `msgpack:"request"`
}

func (w *Worker) outcome(id saga.ID) Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outcomes[string(id)]
}

func (w *Worker) definition(kind block.Kind) saga.Definition[job] {
	return saga.Definition[job]{
		Name: string(kind), Version: 1,
		Steps: []saga.Step[job]{
			{Name: "begin", Undo: saga.Nothing[job], Do: func(_ context.Context, run saga.Run, _ *job) error {
				if w.outcome(run.ID) == Fail {
					return saga.Permanent(ErrTest)
				}
				return nil
			}},
			{Name: "work", Pivot: true, Do: func(context.Context, saga.Run, *job) error { return nil }},
			{Name: "finish", Do: func(_ context.Context, run saga.Run, _ *job) error {
				if w.outcome(run.ID) == Stick {
					return saga.Permanent(ErrTest)
				}
				return nil
			}},
		},
		Done:   func(run saga.Run, s job) error { return w.settle(run, s, false) },
		Undone: func(run saga.Run, s job, _ error) error { return w.settle(run, s, true) },
	}
}

// settle stages what the end of the operation does to the records.
func (w *Worker) settle(run saga.Run, s job, failed bool) error {
	req, err := messages.DecodeRequest(s.Kind, 1, s.Request)
	if err != nil {
		return saga.Permanent(err)
	}
	run.Stage(sagakv.Write(func(s kvtx.Snapshot, tx *kvtx.Tx) error { return w.effect(s, tx, req, failed) }))
	return nil
}
