package admit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/scoria-storage/scoria/api-node/serving"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// WithAsker says how volume nodes are asked what they serve; without it no backend can be forgotten.
func WithAsker(ask serving.Asker) Option { return func(a *Admitter) { a.ask = ask } }

// forgetTries bounds how often a backend is looked at that changes all the time.
const forgetTries = 5

// Forget removes the records of a backend that no process serves and nothing stands on, in one commit: description, storage and pool, each
// at the revision that was read before anybody was asked. A process that starts writes the description, and answers from before that on;
// a create writes the pool when it takes its room: both make the commit fail, or come after it and find nothing.
//
// What was accepted for the backend while it was looked at has written none of them. So what stands on it is looked at once more when the
// records are gone, and they are put back if something does.
func (a *Admitter) Forget(ctx context.Context, c Caller, name string) (kvtx.Revision, error) {
	if a.ask == nil {
		return 0, messages.Errorf(messages.CodeUnsupported, "this API node cannot ask volume nodes what they serve, so it cannot forget a backend")
	}
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	for try := 1; ; try++ {
		f, err := a.forgettable(ctx, name)
		if err != nil {
			return 0, a.refusal(err, "")
		}
		rev, err := a.forget(ctx, f)
		if errors.Is(err, kvtx.ErrConflict) && try < forgetTries {
			continue
		}
		if err != nil {
			return 0, a.refusal(err, "")
		}
		a.log.WarnContext(ctx, "backend forgotten", "backend", name, "kind", f.backend.Kind, "node", f.backend.NodeName, "user", c.User, "request_id", c.RequestID)
		return rev, nil
	}
}

// forgotten is a backend that is about to be forgotten, with its records as they were read.
type forgotten struct {
	backend records.Backend
	entries []kvtx.Entry
}

// forgettable reads the backend, and refuses one that somebody serves or something stands on. The order matters: its records first.
func (a *Admitter) forgettable(ctx context.Context, name string) (*forgotten, error) {
	missing := messages.Errorf(messages.CodeNotFound, "There is no backend %.80q.", name)
	if block.CheckToken(name) != nil {
		return nil, missing
	}
	f := &forgotten{}
	var err error
	if f.entries, err = a.store.GetMany(ctx, records.BackendKey(name), records.PoolKey(name)); err != nil {
		return nil, err
	}
	if !f.entries[0].Exists {
		return nil, missing
	}
	if f.backend, err = records.Decode[records.Backend](f.entries[0].Value); err != nil {
		return nil, err
	}
	if f.backend.Identity != "" {
		e, err := a.store.Get(ctx, records.StorageKey(f.backend.Identity))
		if err != nil {
			return nil, err
		}
		if storage, err := records.Decode[records.Storage](e.Value); err == nil && storage.Backend == name {
			f.entries = append(f.entries, e)
		}
	}
	if err := a.unserved(ctx, &f.backend); err != nil {
		return nil, err
	}
	return f, a.standsOn(ctx, name)
}

// unserved refuses a backend that a process serves, or may serve.
func (a *Admitter) unserved(ctx context.Context, b *records.Backend) error {
	var nodes []records.Node
	err := a.store.Scan(ctx, records.NodeKey("*"), func(e kvtx.Entry) error {
		n, err := records.Decode[records.Node](e.Value)
		if err == nil && b.MayBeServedBy(&n) {
			nodes = append(nodes, n)
		}
		return err
	})
	if err != nil {
		return err
	}
	switch who := serving.Ask(ctx, a.ask, nodes).Of(*b); {
	case ctx.Err() != nil:
		return ctx.Err()
	case who.Nobody():
		return nil
	case len(who.Processes) > 0:
		p := who.Processes[0]
		return messages.Errorf(messages.CodeConflict, "backend %s is served by process %s of node %s: end it, or start it without that backend, "+
			"before the backend is forgotten", b.Name, p.Process, p.Node)
	default:
		return messages.Errorf(messages.CodeConflict, "backend %s cannot be forgotten, because it is not known whether a process serves it: %s", b.Name, who.Unknown)
	}
}

// standsOn refuses a backend that something stands on.
func (a *Admitter) standsOn(ctx context.Context, name string) error {
	var volumes, snapshots, operations []string
	for key, note := range map[string]func(kvtx.Entry) error{
		records.VolumeKey("*"): func(e kvtx.Entry) error {
			v, err := records.Decode[block.Volume](e.Value)
			if err == nil && v.Backend == name {
				volumes = append(volumes, string(v.ID))
			}
			return err
		},
		records.SnapshotKey("*"): func(e kvtx.Entry) error {
			s, err := records.Decode[block.Snapshot](e.Value)
			if err == nil && s.Backend == name {
				snapshots = append(snapshots, string(s.ID))
			}
			return err
		},
		kvlock.OwnerKey("*"): func(e kvtx.Entry) error {
			rec, err := kvlock.DecodeRecord(e)
			if err != nil || !rec.Live() {
				return err
			}
			op, err := operationOf(rec)
			if err == nil && op.Backend == name {
				operations = append(operations, rec.Owner)
			}
			return err
		},
	} {
		if err := a.store.Scan(ctx, key, note); err != nil {
			return err
		}
	}
	var stands []string
	for _, s := range []struct {
		what string
		ids  []string
	}{{"volume", volumes}, {"snapshot", snapshots}, {"operation", operations}} {
		if len(s.ids) > 0 {
			stands = append(stands, fmt.Sprintf("%s %s", s.what, first(s.ids, 3)))
		}
	}
	if len(stands) == 0 {
		return nil
	}
	return messages.Errorf(messages.CodeConflict, "backend %s cannot be forgotten, because these stand on it: %s. Start a volume node with --backend %s=…, "+
		"and delete them first", name, strings.Join(stands, "; "), name)
}

// forget removes the records, and puts them back if something was accepted for the backend meanwhile.
func (a *Admitter) forget(ctx context.Context, f *forgotten) (kvtx.Revision, error) {
	tx := &kvtx.Tx{}
	for _, e := range f.entries {
		if e.Exists {
			tx.Delete(e.Key, e.Revision)
		} else {
			tx.Check(e.Key, e.Revision)
		}
	}
	if a.disk != nil && a.disk.Short() != nil {
		a.disk.Spare() // it frees room
	}
	res, err := a.store.Commit(ctx, tx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitLimit)
	defer cancel()
	stands := a.standsOn(ctx, f.backend.Name)
	if stands == nil {
		// Its consumer has nothing to hand out any more; who serves the backend again makes another.
		_ = a.store.Stream().DeleteConsumer(ctx, records.DispatchConsumer(f.backend.Name))
		return res.Revision(f.entries[0].Key), nil
	}
	if err := a.putBack(ctx, f); err != nil {
		return 0, messages.Errorf(messages.CodeUnavailable, "backend %s was forgotten while something was accepted for it, and its records could not be put back (%v): "+
			"start a volume node with --backend %s=…", f.backend.Name, err, f.backend.Name)
	}
	return 0, stands
}

// putBack makes the records again that are not there again by themselves.
func (a *Admitter) putBack(ctx context.Context, f *forgotten) error {
	var keys []string
	for _, e := range f.entries {
		keys = append(keys, e.Key)
	}
	_, err := a.update(ctx, needsLittle, keys, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		for _, was := range f.entries {
			now, err := s.Get(was.Key)
			if err != nil {
				return err
			}
			if was.Exists && !now.Exists {
				tx.Put(was.Key, was.Value, now.Revision)
			}
		}
		return nil
	})
	return err
}
