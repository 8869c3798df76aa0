package view

import (
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// holds says which live operations have a key.
type holds struct {
	exclusive *Operation
	shared    []*Operation // oldest first
}

// rehold takes the claims of an operation out of holds as it was and puts them in as it is now, and collects the rows
// that look different for it. Either may be nil.
func (f *feed) rehold(was, now *Operation) {
	held, holding := was != nil && was.holds(), now != nil && now.holds()
	if held && holding && was.Stuck() == now.Stuck() {
		return // it went on; no row shows that
	}
	if held {
		for _, c := range was.Claims {
			f.release(c, was)
		}
	}
	if holding {
		for _, c := range now.Claims {
			f.hold(c, now)
		}
	}
}

func (f *feed) hold(c messages.Claim, op *Operation) {
	h := f.holds[c.Key]
	if h == nil {
		h = &holds{}
		f.holds[c.Key] = h
	}
	if c.Mode == kvlock.ModeExclusive.String() {
		h.exclusive = op
	} else {
		i, _ := slices.BinarySearchFunc(h.shared, op, older)
		h.shared = slices.Insert(slices.Clone(h.shared), i, op)
	}
	f.touch(c.Key, op)
}

func (f *feed) release(c messages.Claim, op *Operation) {
	h := f.holds[c.Key]
	if h == nil {
		return
	}
	if h.exclusive != nil && h.exclusive.ID == op.ID {
		h.exclusive = nil
	}
	h.shared = slices.DeleteFunc(slices.Clone(h.shared), func(o *Operation) bool { return o.ID == op.ID })
	if h.exclusive == nil && len(h.shared) == 0 {
		delete(f.holds, c.Key)
	}
	f.touch(c.Key, op)
}

func older(a, b *Operation) int {
	if n := a.Submitted.Compare(b.Submitted); n != 0 {
		return n
	}
	return strings.Compare(string(a.ID), string(b.ID))
}

// touch collects the rows whose look depends on who has the key: they are derived again when they are published.
func (f *feed) touch(key string, op *Operation) {
	prefix, id, _ := strings.Cut(key, ".")
	switch prefix {
	case "volume":
		touch(f.volumes, block.VolumeID(id), f.v.Volume)
	case "snapshot":
		touch(f.snapshots, block.SnapshotID(id), f.v.Snapshot)
	case "attach":
		touch(f.volumes, block.VolumeID(id), f.v.Volume)
		touch(f.attachments, block.AttachmentID(op.Resource), f.v.Attachment)
	}
}

// touch collects a copy of a published row, unless there is none or a newer one is collected already.
func touch[ID ~string, R any](rows map[ID]*R, id ID, published func(ID) (*R, bool)) {
	if _, ok := rows[id]; ok {
		return
	}
	if r, ok := published(id); ok {
		again := *r
		rows[id] = &again
	}
}

func (f *feed) deriveVolume(v *Volume) {
	h := f.holds[records.VolumeKey(v.ID)]
	v.Holder, v.Readers = h.rows()
	v.Shown = block.VolumeStatusOf(v.Status, v.Attachments, h.holder(), f.holds[records.AttachKey(v.ID)].holder())
}

func (f *feed) deriveSnapshot(s *Snapshot) {
	h := f.holds[records.SnapshotKey(s.ID)]
	s.Holder, s.Readers = h.rows()
	s.Shown = s.ShownStatus(h.holder())
}

func (f *feed) deriveAttachment(a *Attachment) {
	a.Holder, a.Shown = nil, a.Status
	h := f.holds[records.AttachKey(a.Volume)]
	if h == nil || h.exclusive == nil || h.exclusive.Resource != string(a.ID) {
		return
	}
	a.Holder, _ = h.rows()
	a.Shown = (&block.Attachment{Status: a.Status}).ShownStatus(h.holder())
}

// holder is the exclusive holder in the words of package block.
func (h *holds) holder() block.Holder {
	if h == nil || h.exclusive == nil {
		return block.Holder{}
	}
	op := h.exclusive
	return block.Holder{Operation: op.ID, Kind: op.Kind, Resource: op.Resource, Stuck: op.Stuck()}
}

// rows are the exclusive holder and the readers in the words of package messages.
func (h *holds) rows() (*messages.Holder, []messages.Holder) {
	if h == nil {
		return nil, nil
	}
	var holder *messages.Holder
	if op := h.exclusive; op != nil {
		holder = &messages.Holder{Operation: op.ID, Kind: op.Kind, Mode: kvlock.ModeExclusive.String(), Since: op.Submitted}
	}
	var readers []messages.Holder
	for _, op := range h.shared {
		readers = append(readers, messages.Holder{Operation: op.ID, Kind: op.Kind, Mode: kvlock.ModeShared.String(), Since: op.Submitted})
	}
	return holder, readers
}

// putOperation publishes one operation and keeps the book of the ended ones.
func (f *feed) putOperation(p *publication, id block.OperationID, op *Operation) {
	wasEnded := ended(p, id)
	if wasEnded {
		f.endedRows--
	}
	if op == nil {
		p.remove(operations, string(id))
		return
	}
	p.put(operations, op)
	if op.Ended {
		f.endedRows++
		if !wasEnded {
			f.ended = append(f.ended, op.ID)
		}
	}
}

func ended(p *publication, id block.OperationID) bool {
	op, ok := p.old(operations, string(id)).(*Operation)
	return ok && op.Ended
}

// trim takes the operations that ended first out of the table while it has too many.
func (f *feed) trim(p *publication) {
	i := 0
	for ; f.endedRows > f.v.ended && i < len(f.ended); i++ {
		if ended(p, f.ended[i]) {
			p.remove(operations, string(f.ended[i]))
			f.endedRows--
		}
	}
	// What expired meanwhile leaves its ID behind.
	for i < len(f.ended) && p.old(operations, string(f.ended[i])) == nil {
		i++
	}
	f.ended = f.ended[i:]
}
