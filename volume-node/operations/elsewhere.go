package operations

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// tryReserve is short: a pool that is full is not waited for.
var tryReserve = saga.Retry{Max: 8, Min: 10 * time.Millisecond, Ceiling: time.Second}

// maxDispatches bounds how often a create is sent to another backend, should pools fill up as fast as it comes.
const maxDispatches = 8

// roomOrElsewhere returns nil if the pool has room by now. Else it hands the operation to another backend and leaves
// it, or ends it in the words of the Block Storage API.
func (e *Env) roomOrElsewhere(ctx context.Context, run saga.Run, s *volumeCreate) error {
	here, err := load[records.Pool](e.look(ctx), records.PoolKey(s.Backend))
	if err != nil {
		return err
	}
	if here.data.Room(s.SizeGiB) {
		return nil
	}
	full := roomWords(&here.data, s.SizeGiB)
	if s.FromSnapshot != "" || s.FromVolume != "" {
		return refuse(messages.CodeNoBackend, "No valid backend was found. The volume must be on the backend of its source: %s", full)
	}
	var to string
	if s.Dispatch < maxDispatches {
		if to, err = e.otherBackend(ctx, s.Backend, s.SizeGiB); err != nil {
			return err
		}
	}
	if to == "" {
		return refuse(messages.CodeNoBackend, "No valid backend was found. No weighed backends available: %s", full)
	}
	return e.move(ctx, run, to, full, s.placed(to))
}

// placed says where the volume will be.
func (s *volumeCreate) placed(on string) kvtxStage {
	return func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		v.data.Backend = on
		v.put(tx)
		return nil
	}
}

// follow returns nil if what the operation works on is on the backend that the operation was sent to. It is not if the operation was
// accepted while it had to wait for a create, and that found its room elsewhere: then the operation goes there, too, with what with
// stages. Once it has its locks nothing moves any more.
//
// The first try only fails: it may be that of a take-over that is not made yet, and is made with the journal of the failure.
func (e *Env) follow(ctx context.Context, run saga.Run, sent, is string, with kvtxStage) error {
	switch {
	case sent == is:
		return nil
	case run.Attempt == 1:
		return elsewhere(sent, is)
	}
	return e.move(ctx, run, is, elsewhere(sent, is).Error(), with)
}

func elsewhere(sent, is string) error {
	return fmt.Errorf("the operation was sent to backend %s, and what it works on is on backend %s by now", sent, is)
}

// followVolume follows a volume in all tries but the first, in which the commit looks at its record.
func (e *Env) followVolume(ctx context.Context, run saga.Run, sent string, id block.VolumeID) error {
	if run.Attempt == 1 {
		return nil
	}
	v, err := volume(e.look(ctx), id)
	if err != nil {
		return err
	}
	return e.follow(ctx, run, sent, v.data.Backend, nil)
}

// otherBackend returns the backend with the most room that is as good as the one named, or "".
func (e *Env) otherBackend(ctx context.Context, not string, size block.GiB) (string, error) {
	var all []records.Backend
	var keys []string
	err := e.Store.Scan(ctx, records.BackendKey("*"), func(entry kvtx.Entry) error {
		b, err := decode[records.Backend](entry)
		if err != nil {
			return err
		}
		all = append(all, b.data)
		keys = append(keys, records.PoolKey(b.data.Name))
		return nil
	})
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(b records.Backend) bool { return b.Name == not })
	if i < 0 {
		return "", nil
	}
	home := all[i]
	entries, err := e.Store.GetMany(ctx, keys...)
	if err != nil {
		return "", err
	}
	var best records.Pool
	for i, entry := range entries {
		b := all[i]
		if b.Name == not || b.KeepsData != home.KeepsData || b.Zone != home.Zone {
			continue
		}
		p, err := decode[records.Pool](entry)
		if err != nil || !p.data.Room(size) {
			continue // a backend that is being registered, or has no room either
		}
		if best.Backend == "" || cmp.Compare(spare(&p.data), spare(&best)) > 0 {
			best = p.data
		}
	}
	return best.Backend, nil
}

// spare is what may still be allocated, in bytes.
func spare(p *records.Pool) float64 {
	if p.TotalBytes < 0 {
		return 1 << 62
	}
	return p.Ratio*float64(p.TotalBytes) - float64(p.AllocatedGiB.Bytes())
}

// kvtxStage stages record changes; nil: none.
type kvtxStage func(kvtx.Snapshot, *kvtx.Tx) error

// move hands the operation to another backend and leaves it: a new dispatch number, the dispatch, a run that begins anew there, and what
// with stages, in one commit. It changes nothing if the operation was taken over.
func (e *Env) move(ctx context.Context, run saga.Run, to, why string, with kvtxStage) error {
	owner := string(run.ID)
	_, err := e.Store.Update(ctx, e.Locks.Keys(owner), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		rec, op, err := e.mine(s, run)
		if err != nil {
			return err
		}
		op.Backend, op.Dispatch = to, rec.Dispatch+1
		payload := sagakv.NewPayload(records.Encode(op))
		if err := e.Locks.StageSave(s, tx, e.Locks.GrantOf(rec), kvlock.Running, payload); err != nil {
			return err
		}
		if rec, err = e.Locks.StageRedispatch(s, tx, owner); err != nil {
			return err
		}
		if with != nil {
			if err := with(s, tx); err != nil {
				return err
			}
		}
		tx.Publish(e.Store.DispatchSubject(records.DispatchParts(to, op.ID, rec.Dispatch)...), nil, nil)
		return nil
	})
	if err != nil {
		return err
	}
	run.Log.InfoContext(ctx, "operation goes to another backend", "backend", to, "reason", why)
	return saga.Leave(fmt.Errorf("backend %s takes the operation: %s", to, why))
}

// mine returns the operation's record and what was accepted, or saga.ErrFenced if another worker has the operation.
func (e *Env) mine(s kvtx.Snapshot, run saga.Run) (kvlock.Record, records.Operation, error) {
	entry, err := s.Get(kvlock.OwnerKey(string(run.ID)))
	if err != nil {
		return kvlock.Record{}, records.Operation{}, err
	}
	rec, err := kvlock.DecodeRecord(entry)
	if err != nil {
		return rec, records.Operation{}, err
	}
	if rec.Epoch != run.Epoch || rec.Fence() != (kvlock.Fence{Era: run.Fence.Era, Rev: run.Fence.Rev}) {
		return rec, records.Operation{}, fmt.Errorf("%w: operation %s is in epoch %d", saga.ErrFenced, rec.Owner, rec.Epoch)
	}
	op, err := accepted(rec)
	return rec, op, err
}
