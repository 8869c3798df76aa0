package view

import (
	"strings"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

const (
	// maxCollected is how many events are collected for one publication at most, and while the view catches up.
	maxCollected = 256
	maxLoading   = 4096
	// maxDelay is how long a collected event waits for the ones that the server said would follow, maxOpen how long one waits
	// for the rest of its commit. Both end waits for what was replaced or removed before it was delivered.
	maxDelay = 10 * time.Millisecond
	maxOpen  = 10 * time.Second
)

// receipts is the prefix of the keys that package kvtx writes last in every commit of several messages. The server may
// deliver the beginning of a commit before its end is stored: a receipt says that it is whole.
const receipts = "rcpt."

// feed applies the stream to the tables. Its fields are what the next publication will say.
type feed struct {
	v *View

	mu       sync.Mutex // the watch and the timer publish
	timer    *time.Timer
	due      time.Time     // what the timer was last set to: it may have gone off just before that
	seq      kvtx.Revision // reported, not yet published
	count    int           // events collected
	caughtUp bool
	// open: what was collected ends inside a commit, because operations begin and end in one of several messages and its
	// receipt has not come yet. Nobody is to see that an operation ended and not what it did.
	open bool

	// What was collected. A nil row was deleted.
	volumes     map[block.VolumeID]*Volume
	snapshots   map[block.SnapshotID]*Snapshot
	attachments map[block.AttachmentID]*Attachment
	operations  map[block.OperationID]*Operation

	// holds are the claims of live operations, by key. Invariant: they follow from the operations collected or published.
	holds map[string]*holds
	// ended are the operations that ended, in the order of their ends; those that left the table are still in it for a while.
	ended     []block.OperationID
	endedRows int
}

func newFeed(v *View) *feed {
	f := &feed{v: v, holds: map[string]*holds{}}
	f.reset()
	f.timer = time.AfterFunc(time.Hour, f.late)
	f.timer.Stop()
	return f
}

// reset forgets what was published. The maps of the load are large, and clearing them costs what they once held.
func (f *feed) reset() {
	f.count = 0
	if f.volumes != nil && f.caughtUp {
		clear(f.volumes)
		clear(f.snapshots)
		clear(f.attachments)
		clear(f.operations)
		return
	}
	f.volumes = map[block.VolumeID]*Volume{}
	f.snapshots = map[block.SnapshotID]*Snapshot{}
	f.attachments = map[block.AttachmentID]*Attachment{}
	f.operations = map[block.OperationID]*Operation{}
}

func (f *feed) stop() {
	f.timer.Stop()
	f.mu.Lock() // a publication that the timer began has ended
	defer f.mu.Unlock()
}

// event takes in one event of the watch.
func (f *feed) event(ev kvtx.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq = ev.Sequence
	if ev.CaughtUp {
		f.publish()
		f.caughtUp = true
		close(f.v.caughtUp)
		return nil
	}
	f.take(ev.Entry)
	f.count++
	switch {
	case !f.caughtUp:
		if f.count >= maxLoading {
			f.publish()
		}
	case f.open:
		f.publishIn(maxOpen)
	case ev.Pending == 0 || f.count >= maxCollected:
		f.publish()
	default:
		f.publishIn(maxDelay)
	}
	return nil
}

// publishIn publishes after the time, if nothing is reported meanwhile. The caller has the lock.
func (f *feed) publishIn(d time.Duration) {
	f.due = time.Now().Add(d)
	f.timer.Reset(d)
}

// late publishes when what was to follow did not: it was replaced or removed before it was delivered.
func (f *feed) late() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count > 0 && f.caughtUp && !time.Now().Before(f.due) {
		f.publish()
	}
}

// take collects one entry. One that cannot be read is logged and leaves the row as it was.
func (f *feed) take(e kvtx.Entry) {
	if err := f.decode(e); err != nil {
		f.v.faults.add(e.Key, err)
		f.v.log.Error("record cannot be read", "key", e.Key, "error", err)
		return
	}
	f.v.faults.remove(e.Key)
}

func (f *feed) decode(e kvtx.Entry) error {
	if strings.HasPrefix(e.Key, receipts) {
		f.open = f.open && !e.Exists // not when one expires
		return nil
	}
	if id, ok := strings.CutPrefix(e.Key, kvlock.OwnerKey("")); ok {
		return f.decodeOperation(block.OperationID(id), e)
	}
	class, name := records.Classify(e.Key)
	switch class {
	case records.ClassVolume:
		return collect(f.volumes, block.VolumeID(name), e, newVolume)
	case records.ClassSnapshot:
		return collect(f.snapshots, block.SnapshotID(name), e, newSnapshot)
	case records.ClassAttachment:
		return collect(f.attachments, block.AttachmentID(name), e, newAttachment)
	case records.ClassQuota, records.ClassCredit, records.ClassPool, records.ClassBackend, records.ClassNode:
		value := e.Value
		if !e.Exists {
			value = nil
		}
		return f.v.books.set(class, e.Key, name, value)
	case records.ClassOther:
	}
	return nil
}

func collect[ID ~string, T records.Record, R any](rows map[ID]*R, id ID, e kvtx.Entry, row func(T, kvtx.Revision) *R) error {
	if !e.Exists {
		rows[id] = nil
		return nil
	}
	r, err := records.Decode[T](e.Value)
	if err != nil {
		return err
	}
	rows[id] = row(r, e.Revision)
	return nil
}

func (f *feed) decodeOperation(id block.OperationID, e kvtx.Entry) error {
	var now *Operation
	if e.Exists {
		var err error
		if now, err = newOperation(e); err != nil {
			return err
		}
	}
	was := f.operation(id)
	f.open = f.open || now != nil && (was == nil || now.Ended)
	f.rehold(was, now)
	f.operations[id] = now
	return nil
}

// operation returns the operation as collected, else as published.
func (f *feed) operation(id block.OperationID) *Operation {
	if op, ok := f.operations[id]; ok {
		return op
	}
	op, _ := f.v.Operation(id)
	return op
}

// publish makes everything that was collected visible at once. The caller has the lock.
func (f *feed) publish() {
	f.timer.Stop()
	f.open = false
	if f.count > 0 {
		p := f.v.tables.begin()
		for id, op := range f.operations {
			f.putOperation(p, id, op)
		}
		f.trim(p)
		publish(p, attachments, f.attachments, f.deriveAttachment)
		publish(p, snapshots, f.snapshots, f.deriveSnapshot)
		publish(p, volumes, f.volumes, f.deriveVolume)
		p.commit()
	}
	f.v.applied.Store(uint64(f.seq))
	f.v.gate.open()
	f.v.waiters.changed(f.operations)
	if f.count > 0 {
		f.reset()
	}
}

// publish puts the resources of a table, each with the look that the live operations give it.
func publish[ID ~string, R any, P interface {
	*R
	row
}](p *publication, table string, collected map[ID]P, derive func(P)) {
	for id, r := range collected {
		if r == nil {
			p.remove(table, string(id))
			continue
		}
		derive(r)
		p.put(table, r)
	}
}
