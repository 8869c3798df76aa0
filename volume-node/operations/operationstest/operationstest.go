// Package operationstest is the surroundings of a volume node's operations in tests: a bucket of its own with backends,
// pools and nodes in it, what admission wants to know of them, and a picture of everything that an operation may leave
// behind.
//
// Invariants: two worlds share nothing but the server; a picture has no times, revisions or made-up IDs in it, so that
// two runs of the same operations have equal ones.
//
// It admits nothing and runs nothing: that is left to what is tested.
package operationstest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/messages/withdraw"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// NodeName is the name of the node that serves every backend.
const NodeName = "n1"

// World is a bucket with what operations need in it.
type World struct {
	Store *kvtx.Store
	Locks *kvlock.Locker
}

var buckets atomic.Int64

// New makes a world in a new bucket, and closes it when the test ends.
func New(t testing.TB, js jetstream.JetStream, opts ...kvtx.Option) *World {
	t.Helper()
	bucket := fmt.Sprintf("world-%d", buckets.Add(1))
	store, err := kvtx.Ensure(t.Context(), js, kvtx.Config{Bucket: bucket}, opts...)
	if err != nil {
		t.Fatalf("bucket %s: %v", bucket, err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &World{Store: store, Locks: kvlock.New(store, kvlock.WithLeft(withdraw.Into(NodeName)))}
}

// Again is another process's way to the same world, with a committer of its own.
func (w *World) Again(t testing.TB, js jetstream.JetStream, opts ...kvtx.Option) *World {
	t.Helper()
	store, err := kvtx.Open(t.Context(), js, kvtx.Config{Bucket: w.Store.Bucket()}, opts...)
	if err != nil {
		t.Fatalf("bucket %s: %v", w.Store.Bucket(), err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &World{Store: store, Locks: kvlock.New(store, kvlock.WithLeft(withdraw.Into(NodeName)))}
}

// Register writes the records of a backend and its pool, of size GiB, and of the node that serves it.
func (w *World) Register(t testing.TB, name string, d driver.Driver, size block.GiB) {
	t.Helper()
	info := d.Info()
	b := records.Backend{Name: name, Kind: info.Kind, Fencing: string(info.Fencing), Reflink: info.Capabilities.CloneWhileOpen, KeepsData: info.Capabilities.KeepsData}
	if info.Fencing == driver.FencingNode {
		b.Node, b.NodeName = "id-of-"+NodeName, NodeName
	}
	p := records.Pool{Backend: name, TotalBytes: size.Bytes(), FreeBytes: size.Bytes(), Ratio: 1}
	Put(t, w, records.BackendKey(name), func(r *records.Backend) { *r = b })
	Put(t, w, records.PoolKey(name), func(r *records.Pool) { *r = p })
	Put(t, w, records.NodeKey(NodeName), func(r *records.Node) {
		r.Name, r.ID, r.Seen = NodeName, "id-of-"+NodeName, time.Now()
		r.Backends = append(r.Backends, name)
	})
}

// Put changes a record as a commit of its own.
func Put[T records.Record](t testing.TB, w *World, key string, change func(*T)) {
	t.Helper()
	_, err := w.Store.Update(t.Context(), []string{key}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := s.Get(key)
		if err != nil {
			return err
		}
		var r T
		if e.Exists {
			if r, err = records.Decode[T](e.Value); err != nil {
				return err
			}
		}
		change(&r)
		tx.Put(key, records.Encode(r), e.Revision)
		return nil
	})
	if err != nil {
		t.Fatalf("write %s: %v", key, err)
	}
}

// Get reads a record; false if there is none.
func Get[T records.Record](t testing.TB, w *World, key string) (T, bool) {
	t.Helper()
	var r T
	e, err := w.Store.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	if !e.Exists {
		return r, false
	}
	if r, err = records.Decode[T](e.Value); err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	return r, true
}

// Picture describes all records but the operations' own, and all locks.
func (w *World) Picture(ctx context.Context) (map[string]string, error) {
	out := make(map[string]string)
	err := w.Store.Scan(ctx, ">", func(e kvtx.Entry) error {
		what, err := describe(e)
		if what != "" {
			out[e.Key] = what
		}
		return err
	})
	return out, err
}

func describe(e kvtx.Entry) (string, error) {
	switch class, _ := records.Classify(e.Key); class {
	case records.ClassVolume:
		return show(e, func(v *block.Volume) {
			v.CreatedAt, v.UpdatedAt, v.LastOperation, v.Fault = time.Time{}, time.Time{}, "", presence(v.Fault)
		})
	case records.ClassSnapshot:
		return show(e, func(v *block.Snapshot) {
			v.CreatedAt, v.UpdatedAt, v.LastOperation, v.Fault = time.Time{}, time.Time{}, "", presence(v.Fault)
		})
	case records.ClassAttachment:
		return show(e, func(v *block.Attachment) {
			v.CreatedAt, v.UpdatedAt, v.AttachedAt, v.LastOperation, v.Fault = time.Time{}, time.Time{}, time.Time{}, "", presence(v.Fault)
			if v.Connection != nil { // sockets are in directories of the test
				c := *v.Connection
				c.URI, c.Socket = presence(c.URI), presence(c.Socket)
				v.Connection = &c
			}
		})
	case records.ClassQuota:
		return show(e, func(*records.Quota) {})
	case records.ClassCredit:
		return show(e, func(*records.Credit) {})
	case records.ClassPool:
		return show(e, func(p *records.Pool) { p.ReportedAt = time.Time{} })
	case records.ClassBackend, records.ClassNode:
		return "", nil
	case records.ClassOther:
	}
	if !strings.HasPrefix(e.Key, kvlock.LockKey("")) {
		return "", nil
	}
	l, err := kvlock.DecodeLock(e)
	if err != nil {
		return "", err
	}
	var owners []string
	for _, h := range l.Holders {
		owners = append(owners, h.Owner)
	}
	return fmt.Sprintf("%s by %v, line of %d", l.Mode, owners, len(l.Line)), nil
}

func presence(s string) string {
	if s != "" {
		return "some"
	}
	return ""
}

func show[T records.Record](e kvtx.Entry, forget func(*T)) (string, error) {
	r, err := records.Decode[T](e.Value)
	if err != nil {
		return "", fmt.Errorf("%s: %w", e.Key, err)
	}
	forget(&r)
	text, err := json.Marshal(r)
	return string(text), err
}

// Hints tells admission of the world.
type Hints struct {
	T     testing.TB
	World *World
	// Only, if set, is the one backend that new volumes are put on.
	Only string
}

func list[T records.Record](h Hints, pattern string) []T {
	var all []T
	err := h.World.Store.Scan(context.Background(), pattern, func(e kvtx.Entry) error {
		r, err := records.Decode[T](e.Value)
		all = append(all, r)
		return err
	})
	if err != nil {
		h.T.Errorf("scan of %s: %v", pattern, err)
	}
	return all
}

// Backends lists the backends, or the only one.
func (h Hints) Backends() []records.Backend {
	all := list[records.Backend](h, records.BackendKey("*"))
	if h.Only == "" {
		return all
	}
	return slices.DeleteFunc(all, func(b records.Backend) bool { return b.Name != h.Only })
}

// Backend finds one by name.
func (h Hints) Backend(name string) (records.Backend, bool) {
	for _, b := range list[records.Backend](h, records.BackendKey("*")) {
		if b.Name == name {
			return b, true
		}
	}
	return records.Backend{}, false
}

// Pool says that there is always room: the record decides, in the first step.
func (h Hints) Pool(backend string) (records.Pool, bool) {
	return records.Pool{Backend: backend, TotalBytes: -1}, true
}

// Nodes lists the nodes.
func (h Hints) Nodes() []records.Node { return list[records.Node](h, records.NodeKey("*")) }

// CreditNodes names the nodes that have given credits to a project.
func (h Hints) CreditNodes(project string) []string {
	var all []string
	for _, c := range list[records.Credit](h, records.CreditKey(project, "*")) {
		all = append(all, c.Node)
	}
	return all
}
