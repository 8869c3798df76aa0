package rest

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// lockView is a lock in the form of Scoria's own calls.
type lockView struct {
	Key     string       `json:"key"`
	Mode    string       `json:"mode"`
	Holders []holderView `json:"holders"`
	Waiting []waiterView `json:"waiting"`
}

type holderView struct {
	Operation  string     `json:"operation"`
	Kind       block.Kind `json:"kind,omitempty"`
	Mode       string     `json:"mode"`
	Project    string     `json:"project,omitempty"`
	Resource   string     `json:"resource,omitempty"`
	Phase      string     `json:"phase,omitempty"`
	Step       string     `json:"step,omitempty"`
	Attempt    int        `json:"attempt"`
	Epoch      uint64     `json:"epoch"`
	TakenOver  uint64     `json:"taken_over"`
	Worker     string     `json:"worker,omitempty"`
	Since      time.Time  `json:"since"`
	StepSince  *time.Time `json:"step_since,omitempty"`
	StepWaits  string     `json:"step_waits,omitempty"`
	AgeSeconds int64      `json:"age_seconds"`
	Error      string     `json:"error,omitempty"`
	ReleasedBy string     `json:"released_by"`
}

type waiterView struct {
	Operation string     `json:"operation"`
	Kind      block.Kind `json:"kind,omitempty"`
	Mode      string     `json:"mode"`
	Since     time.Time  `json:"since"`
}

// explain tells who has the lock and what will release it.
func (c *call) explain(l kvlock.Lock, now time.Time) lockView {
	v := lockView{Key: l.Key, Mode: l.Mode.String(), Holders: []holderView{}, Waiting: []waiterView{}}
	for _, h := range l.Holders {
		holder := holderView{
			Operation: h.Owner, Mode: l.Mode.String(), Since: h.Since, AgeSeconds: int64(max(now.Sub(h.Since), 0) / time.Second),
			ReleasedBy: "its end; the operation is not known to this API node",
		}
		if op, ok := c.reader().Operation(block.OperationID(h.Owner)); ok {
			holder.describe(op)
			if why := c.unserved(op); why != "" {
				holder.StepWaits = cmp.Or(holder.StepWaits, why)
				holder.ReleasedBy = "its end, once its backend is served again"
			}
		}
		v.Holders = append(v.Holders, holder)
	}
	for _, w := range l.Line {
		waiter := waiterView{Operation: w.Owner, Mode: w.Mode.String(), Since: w.Since}
		if op, ok := c.reader().Operation(block.OperationID(w.Owner)); ok {
			waiter.Kind = op.Kind
		}
		v.Waiting = append(v.Waiting, waiter)
	}
	return v
}

func (h *holderView) describe(op *view.Operation) {
	h.Kind, h.Project, h.Resource, h.Phase, h.Step = op.Kind, op.Project, op.Resource, op.Phase, op.Step
	h.Attempt, h.Epoch, h.TakenOver, h.Worker, h.Error, h.ReleasedBy = op.Attempt, op.Epoch, op.TakenOver, op.Worker, op.Error, releasedBy(op)
	h.StepWaits = op.StepWaits
	if !op.StepSince.IsZero() {
		h.StepSince = &op.StepSince
	}
}

// locks collects the locks that keep wants, those of other projects only for admins.
func (c *call) locks(keep func(kvlock.Lock) bool) []lockView {
	now, found := time.Now(), []lockView{}
	for l := range c.reader().Locks() {
		if !keep(l) {
			continue
		}
		v := c.explain(l, now)
		if !c.who.Admin {
			v.Holders = slices.DeleteFunc(v.Holders, func(h holderView) bool { return !c.mine(h.Project) })
			v.Waiting = slices.DeleteFunc(v.Waiting, func(w waiterView) bool {
				op, ok := c.reader().Operation(block.OperationID(w.Operation))
				return !ok || !c.mine(op.Project)
			})
			if len(v.Holders)+len(v.Waiting) == 0 {
				continue
			}
		}
		found = append(found, v)
	}
	return found
}

func (c *call) listLocks() error {
	return c.replyJSON(http.StatusOK, map[string]any{"locks": c.locks(func(kvlock.Lock) bool { return true })})
}

// explainLock explains one key, or all keys of a volume, a snapshot or an attachment. A key that nobody holds is an empty list; what does
// not exist is not found.
func (c *call) explainLock() error {
	keys, err := c.lockKeys()
	if err != nil {
		return err
	}
	found := c.locks(func(l kvlock.Lock) bool { return slices.Contains(keys, l.Key) })
	if len(found) == 0 && !c.exists(keys) {
		return notFound("There is no volume, snapshot or attachment %s, and nobody holds a lock of that name.", clip(c.r.PathValue("key")))
	}
	return c.replyJSON(http.StatusOK, map[string]any{"locks": found})
}

// lockKeys are the keys that the path names: one, or all of a volume, a snapshot or an attachment.
func (c *call) lockKeys() ([]string, error) {
	key := c.r.PathValue("key")
	keys := []string{key}
	if block.IsUUID(key) {
		keys = []string{records.VolumeKey(block.VolumeID(key)), records.AttachKey(block.VolumeID(key)), records.SnapshotKey(block.SnapshotID(key))}
		if a, ok := c.reader().Attachment(block.AttachmentID(key)); ok && c.mine(a.Project) {
			keys = append(keys, records.AttachKey(a.Volume))
		}
	} else if !lockKey(key) {
		return nil, badRequest("%s is no key of a lock: want volume.ID, attach.ID or snapshot.ID, or the ID of a volume, a snapshot or an attachment.", pyRepr(clip(key)))
	}
	return keys, nil
}

func lockKey(key string) bool {
	for _, prefix := range []string{records.VolumeKey(""), records.AttachKey(""), records.SnapshotKey("")} {
		if strings.HasPrefix(key, prefix) && len(key) > len(prefix) {
			return true
		}
	}
	return false
}

// exists reports whether one of the keys is that of a resource that the caller may see.
func (c *call) exists(keys []string) bool {
	for _, key := range keys {
		for _, prefix := range []string{records.VolumeKey(""), records.AttachKey("")} {
			if id, ok := strings.CutPrefix(key, prefix); ok {
				if v, there := c.reader().Volume(block.VolumeID(id)); there && c.mine(v.Project) {
					return true
				}
			}
		}
		if id, ok := strings.CutPrefix(key, records.SnapshotKey("")); ok {
			if s, there := c.reader().Snapshot(block.SnapshotID(id)); there && c.mine(s.Project) {
				return true
			}
		}
	}
	return false
}
