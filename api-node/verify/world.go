package verify

import (
	"strings"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// world is everything that the bucket holds at about one moment.
type world struct {
	volumes     map[block.VolumeID]block.Volume
	snapshots   map[block.SnapshotID]block.Snapshot
	attachments map[block.AttachmentID]block.Attachment
	quotas      map[string]records.Quota
	credits     []records.Credit
	pools       map[string]records.Pool
	backends    map[string]records.Backend
	nodes       map[string]records.Node
	operations  map[string]kvlock.Record
	locks       map[string]kvlock.Lock
	listings    []listing
	unlisted    []Difference // what could not be listed
	broken      []Difference // what could not be read
}

// listing is what one process finds on one backend that keeps data.
type listing struct {
	node, process, backend string
	Listing
}

func newWorld() *world {
	return &world{
		volumes: map[block.VolumeID]block.Volume{}, snapshots: map[block.SnapshotID]block.Snapshot{},
		attachments: map[block.AttachmentID]block.Attachment{}, quotas: map[string]records.Quota{},
		pools: map[string]records.Pool{}, backends: map[string]records.Backend{}, nodes: map[string]records.Node{},
		operations: map[string]kvlock.Record{}, locks: map[string]kvlock.Lock{},
	}
}

func (w *world) counts() map[string]int {
	most := map[string]int{} // by backend
	for _, l := range w.listings {
		most[l.backend] = max(most[l.backend], len(l.Objects))
	}
	objects := 0
	for _, n := range most {
		objects += n
	}
	return map[string]int{
		"volumes": len(w.volumes), "snapshots": len(w.snapshots), "attachments": len(w.attachments), "quotas": len(w.quotas),
		"pools": len(w.pools), "operations": len(w.operations), "locks": len(w.locks), "backend_objects": objects,
	}
}

// add takes one entry of the bucket. One that cannot be read is a difference.
func (w *world) add(e kvtx.Entry) error {
	if err := w.decode(e); err != nil {
		w.broken = append(w.broken, Difference{"record", e.Key, err.Error()})
	}
	return nil
}

func (w *world) decode(e kvtx.Entry) error {
	class, name := records.Classify(e.Key)
	switch class {
	case records.ClassVolume:
		return put(e, w.volumes, block.VolumeID(name))
	case records.ClassSnapshot:
		return put(e, w.snapshots, block.SnapshotID(name))
	case records.ClassAttachment:
		return put(e, w.attachments, block.AttachmentID(name))
	case records.ClassQuota:
		return put(e, w.quotas, name)
	case records.ClassPool:
		return put(e, w.pools, name)
	case records.ClassBackend:
		return put(e, w.backends, name)
	case records.ClassNode:
		return put(e, w.nodes, name)
	case records.ClassCredit:
		c, err := records.Decode[records.Credit](e.Value)
		w.credits = append(w.credits, c)
		return err
	case records.ClassOther:
	}
	return w.decodeLocks(e)
}

// decodeLocks takes the records of package kvlock.
func (w *world) decodeLocks(e kvtx.Entry) error {
	switch {
	case strings.HasPrefix(e.Key, kvlock.OwnerKey("")):
		r, err := kvlock.DecodeRecord(e)
		if err == nil {
			w.operations[r.Owner] = r
		}
		return err
	case strings.HasPrefix(e.Key, kvlock.LockKey("")):
		l, err := kvlock.DecodeLock(e)
		if err == nil {
			w.locks[strings.TrimPrefix(e.Key, kvlock.LockKey(""))] = l
		}
		return err
	}
	return nil // receipts and what later releases add
}

func put[K comparable, T records.Record](e kvtx.Entry, into map[K]T, id K) error {
	r, err := records.Decode[T](e.Value)
	if err == nil {
		into[id] = r
	}
	return err
}

// live reports whether the operation holds its claims.
func live(r kvlock.Record) bool {
	switch r.Phase {
	case kvlock.Granted, kvlock.Running, kvlock.Undoing, kvlock.Stuck:
		return true
	case kvlock.Void:
		return r.Ended.IsZero()
	case kvlock.Queued, kvlock.Done, kvlock.Undone:
	}
	return false
}

// held reports whether a live operation has the key exclusively.
func (w *world) held(key string) bool {
	for _, h := range w.locks[key].Holders {
		op, ok := w.operations[h.Owner]
		if !ok || !live(op) {
			continue
		}
		for _, c := range op.Claims {
			if c.Key == key && c.Mode == kvlock.ModeExclusive {
				return true
			}
		}
	}
	return false
}
