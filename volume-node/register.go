package volumenode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// register writes who the node is, which backends it serves and how much room they have.
func (n *Node) register(ctx context.Context) error {
	if err := n.registerNode(ctx); err != nil {
		return err
	}
	for _, b := range n.served {
		if err := n.registerBackend(ctx, b); err != nil {
			return err
		}
		if err := n.reportPool(ctx, b); err != nil {
			return fmt.Errorf("backend %s: %w", b.spec.Name, err)
		}
	}
	return nil
}

// change reads a record, lets fn change it, and writes it if it changed.
func change[T records.Record](ctx context.Context, store *kvtx.Store, key string, fn func(r *T, exists bool) error) error {
	_, err := store.Update(ctx, []string{key}, func(s kvtx.Snapshot, tx *kvtx.Tx) error { return edit(s, tx, key, fn) })
	return err
}

// edit is change as a part of a commit. What a newer release wrote into the record stays.
func edit[T records.Record](s kvtx.Snapshot, tx *kvtx.Tx, key string, fn func(r *T, exists bool) error) error {
	e, err := s.Get(key)
	if err != nil {
		return err
	}
	var r T
	if e.Exists {
		if r, err = records.Decode[T](e.Value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if err := fn(&r, e.Exists); err != nil {
		return err
	}
	if !e.Exists {
		tx.Put(key, records.Encode(r), e.Revision)
		return nil
	}
	value, err := records.EncodeOver(e.Value, r)
	if err == nil && !bytes.Equal(value, e.Value) {
		tx.Put(key, value, e.Revision)
	}
	return err
}

func (n *Node) registerNode(ctx context.Context) error {
	return change(ctx, n.deps.Store, records.NodeKey(n.cfg.Name), func(r *records.Node, exists bool) error {
		if exists && r.ID != n.id {
			return &SettingError{Name: "name", Value: n.cfg.Name, Want: fmt.Sprintf(
				"there is a node of this name with ID %s, last started %s; this one's state directory %s has ID %s: choose another name, or "+
					"start with the state directory of that node", r.ID, r.Seen.Format(time.RFC3339), n.cfg.StateDir, n.id)}
		}
		running, err := n.member.Running()
		if err != nil {
			return err
		}
		r.Name, r.ID, r.Release, r.Seen = n.cfg.Name, n.id, n.cfg.Release, time.Now().UTC()
		maps.DeleteFunc(r.Processes, func(p string, _ []string) bool { return !slices.Contains(running, p) })
		if r.Processes == nil {
			r.Processes = map[string][]string{}
		}
		r.Processes[n.worker] = n.names()
		r.Backends = all(n.names(), r.Processes)
		return nil
	})
}

// all returns the backends of a process and those of the others.
func all(own []string, processes map[string][]string) []string {
	for _, p := range slices.Sorted(maps.Keys(processes)) {
		for _, b := range processes[p] {
			if !slices.Contains(own, b) {
				own = append(own, b)
			}
		}
	}
	return own
}

// reportPool writes how much room the backend has, if that changed notably. A pool that is made anew is one of a backend that is there, which
// the commit checks.
func (n *Node) reportPool(ctx context.Context, b served) error {
	c, err := b.Capacity(ctx)
	if err != nil {
		return err
	}
	pool, backend := records.PoolKey(b.spec.Name), records.BackendKey(b.spec.Name)
	_, err = n.deps.Store.Update(ctx, []string{pool, backend}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		return edit(s, tx, pool, func(p *records.Pool, exists bool) error {
			if exists && p.TotalBytes == c.TotalBytes && p.Ratio == c.Oversubscription && !notable(p.FreeBytes, c.FreeBytes, c.TotalBytes) {
				return nil
			}
			if !exists {
				e, err := s.Get(backend)
				if err == nil && !e.Exists {
					err = errForgotten
				}
				if err != nil {
					return err
				}
				tx.Check(backend, e.Revision)
			}
			p.Backend, p.TotalBytes, p.FreeBytes, p.Ratio, p.ReportedAt = b.spec.Name, c.TotalBytes, c.FreeBytes, c.Oversubscription, time.Now().UTC()
			return nil
		})
	})
	return err
}

// errForgotten: an operator had the backend forgotten.
var errForgotten = errors.New("the backend has been forgotten")

// keepRegistered registers a backend again that was forgotten while this process could not be asked whether it serves it.
func (n *Node) keepRegistered(ctx context.Context, b served) error {
	e, err := n.deps.Store.Get(ctx, records.BackendKey(b.spec.Name))
	if err != nil || e.Exists {
		return err
	}
	n.log.WarnContext(ctx, "the backend was forgotten while this process serves it: it is registered again", "backend", b.spec.Name)
	return n.registerBackend(ctx, b)
}

// notable says whether the free room changed by a hundredth of the whole or more: a pool's record is a busy one.
func notable(was, is, total int64) bool { return math.Abs(float64(was-is)) >= float64(total)/100 }

// poolEvery is how often the room of the backends is asked for.
const poolEvery = 30 * time.Second

func (n *Node) reportPools(ctx context.Context) {
	for sleep(ctx, poolEvery) {
		n.report(ctx)
	}
}

// report tells of all backends that they are there, and how much room they have.
func (n *Node) report(ctx context.Context) {
	for _, b := range n.served {
		err := n.keepRegistered(ctx, b)
		if err == nil {
			err = n.reportPool(ctx, b)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, driver.ErrAway) {
			n.log.WarnContext(ctx, "room of the backend not reported", "backend", b.spec.Name, "error", err)
		}
	}
}

// cleanEvery is how often what ended operations left on the backends is removed, and lock files of what is gone.
const cleanEvery = time.Hour

func (n *Node) cleanup(ctx context.Context) {
	for {
		for _, b := range n.served {
			err := b.Cleanup(ctx, func(operation string) bool { return n.ended(ctx, operation) })
			if err != nil && ctx.Err() == nil && !errors.Is(err, driver.ErrUnsupported) && !errors.Is(err, driver.ErrAway) {
				n.log.WarnContext(ctx, "backend not cleaned up", "backend", b.spec.Name, "error", err)
			}
		}
		if !sleep(ctx, cleanEvery) {
			return
		}
	}
}

// sleep waits, and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
