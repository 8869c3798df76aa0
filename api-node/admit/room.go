package admit

import (
	"context"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// Option sets what most users of an Admitter leave alone.
type Option func(*Admitter)

// WithDisk makes the Admitter look whether there is room before it accepts; nil: there always is.
func WithDisk(d Disk) Option { return func(a *Admitter) { a.disk = d } }

// Disk is where the stream is kept.
type Disk interface {
	// Short says why what needs room cannot be accepted now and what to do, or returns nil.
	Short() error
	// Spare gives what is kept for it to a change that frees room or ends work, if there is no other room.
	Spare()
}

// WithStream makes the Admitter wait only for a stream that answers, and name the one that does not; nil: it always does.
func WithStream(s Stream) Option { return func(a *Admitter) { a.stream = s } }

// Stream is what is committed to.
type Stream interface {
	// Silent says who does not answer, as a *messages.Error, or returns nil.
	Silent() error
	// Patient is ctx, ended when there has been no answer for so long that what was sent is not waited for any more.
	Patient(ctx context.Context) (context.Context, context.CancelFunc)
}

// need is what room a change needs.
type need int

const (
	// needsNone: it writes nothing that is not there.
	needsNone need = iota
	// needsLittle: it frees room, or ends what was begun, and goes on for as long as anything does.
	needsLittle
	// needsRoom: everything else.
	needsRoom
)

// need says what the submission needs.
func (a *Admitter) need(ctx context.Context, p *prepared, sub Submission) need {
	switch p.kind {
	case block.VolumeDelete, block.SnapshotDelete, block.VolumeDetach:
		return needsLittle
	case block.VolumeCreate, block.VolumeExtend, block.VolumeRevert, block.VolumeAttach, block.SnapshotCreate:
	}
	if sub.Operation == "" {
		return needsRoom
	}
	return a.needOf(ctx, kvlock.OwnerKey(string(p.id)))
}

// needOf says what a request needs that makes the record of the key. A repeated one needs nothing: its record is there.
func (a *Admitter) needOf(ctx context.Context, key string) need {
	if a.short() == nil {
		return needsRoom
	}
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	if e, err := a.store.Get(ctx, key); err != nil || !e.Exists {
		return needsRoom
	}
	return needsNone
}

// short refuses because there is no room, if there is none.
func (a *Admitter) short() error {
	if a.disk == nil {
		return nil
	}
	if err := a.disk.Short(); err != nil {
		return messages.Errorf(messages.CodeUnavailable, "%v", err)
	}
	return nil
}

// commitLimit bounds the wait for a commit, so that a caller hears of a stream that takes none. One that was sent and is not answered is worth
// waiting for: it is sent again after 10 s, and at once when a lost connection is back, and then its caller learns what became of it.
const commitLimit = 30 * time.Second

// update is the store's Update, if there is the room that it needs, and for as long as a caller should wait.
func (a *Admitter) update(ctx context.Context, n need, keys []string, fn func(kvtx.Snapshot, *kvtx.Tx) error, opts ...kvtx.UpdateOption) (kvtx.Result, error) {
	if err := a.short(); err != nil && n != needsNone {
		if n == needsRoom {
			return kvtx.Result{}, err
		}
		a.disk.Spare()
	}
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	if a.stream != nil {
		var stop context.CancelFunc
		ctx, stop = a.stream.Patient(ctx)
		defer stop()
	}
	if n != needsLittle {
		opts = append(opts, kvtx.Yields()) // what ends something is refused last
	}
	return a.store.Update(ctx, keys, fn, opts...)
}
