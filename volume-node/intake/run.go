package intake

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// accepted is an operation that may be run here.
type accepted struct {
	rec    kvlock.Record
	grant  kvlock.Grant
	op     records.Operation
	status saga.Status // of its run so far
	input  any         // for a run that has not begun
}

// run takes the delivery's operation over and drives it, and says what becomes of the delivery.
func (i *Intake) run(ctx context.Context, r *running, d delivery) *outcome {
	a := i.fresh(ctx, d)
	if a == nil {
		var o *outcome
		if a, o = i.takeOver(ctx, d); o != nil {
			return o
		}
	}
	log, err := sagakv.Attach(i.deps.Store, i.deps.Locks, a.grant, a.rec)
	if err != nil {
		return i.unreadable(err)
	}
	i.begin(r, a, log.Head())
	what := []any{"operation", d.operation, "kind", string(a.op.Kind), "backend", d.backend, "epoch", a.grant.Epoch()}
	if !a.grant.Intended() { // else it has no fence yet
		what = append(what, "fence", a.grant.Fence().String())
	}
	i.log.InfoContext(ctx, "operation taken over", what...)
	st, err := i.exec.Run(ctx, log, string(a.op.Kind), 0, a.input)
	if errors.Is(err, saga.ErrFenced) && log.Grant().Intended() { // it was never this worker's
		return later(i.cfg.Lease/4, Overtaken, err.Error())
	}
	return i.after(ctx, d, a, st, err)
}

// after says what becomes of a delivery whose operation was driven.
func (i *Intake) after(ctx context.Context, d delivery, a *accepted, st saga.Status, err error) *outcome {
	log := i.log.With("operation", d.operation, "kind", string(a.op.Kind), "step", st.Step, "epoch", a.grant.Epoch())
	switch {
	case err == nil && st.Phase == saga.Stuck:
		log.ErrorContext(ctx, "operation is stuck and waits for a person: its locks stay held", "error", cause(st))
		return done(a.rec.Dispatch, Stuck, "stuck")
	case err == nil && st.Phase == saga.Undone:
		log.WarnContext(ctx, "operation was undone", "error", cause(st))
		return done(every, Ended, "undone")
	case err == nil:
		log.InfoContext(ctx, "operation ended")
		return done(every, Ended, "done")
	case errors.Is(err, saga.ErrFenced):
		log.WarnContext(ctx, "operation was taken over by another worker: this one stops", "error", err)
		return &outcome{verdict: leave, upTo: every, kind: Overtaken, reason: err.Error()}
	case errors.Is(err, saga.ErrLeft):
		log.InfoContext(ctx, "operation was handed on", "error", err)
		return done(a.rec.Dispatch, HandedOn, err.Error())
	case errors.Is(err, saga.ErrParked):
		log.WarnContext(ctx, "operation waits for a node that has its definition", "error", err)
		return later(i.cfg.ParkDelay, Parked, err.Error())
	case ctx.Err() != nil:
		log.InfoContext(ctx, "operation is left to others", "error", err)
		return later(0, LeftOver, err.Error())
	}
	log.WarnContext(ctx, "operation is interrupted and begins again where its journal stands", "error", err)
	return later(time.Second, Interrupted, err.Error())
}

func cause(st saga.Status) string {
	switch {
	case st.Stuck != nil:
		return st.Stuck.Error()
	case st.Cause != nil:
		return st.Cause.Error()
	}
	return ""
}

// fresh returns an operation that nobody has taken over and whose first step only stages writes: the take-over is made with them, which
// saves a commit. nil: take it over first. What is known of the record may be old; the commit decides.
func (i *Intake) fresh(ctx context.Context, d delivery) *accepted {
	entry, ok := i.deps.Store.Cached(ctx, kvlock.OwnerKey(d.operation))
	if !ok {
		var err error
		if entry, err = i.deps.Store.Get(ctx, kvlock.OwnerKey(d.operation)); err != nil {
			return nil
		}
	}
	a, o := i.judge(d, entry)
	if o != nil || !i.records[a.definition(i.deps.Registry)] {
		return nil
	}
	var err error
	if a.grant, err = i.deps.Locks.Intend(a.rec, i.cfg.Worker, rand.Text()); err != nil {
		return nil
	}
	a.rec.Phase, a.rec.Worker, a.rec.Epoch = kvlock.Running, i.cfg.Worker, a.grant.Epoch() // as it is about to be
	return a
}

// takeOver makes this worker the one of the operation: one write. An outcome says why it may not.
func (i *Intake) takeOver(ctx context.Context, d delivery) (*accepted, *outcome) {
	token := rand.Text()
	var found atomic.Pointer[accepted] // the store may still run the function when Update has given up
	res, err := i.deps.Store.Update(ctx, i.deps.Locks.Keys(d.operation), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		entry, err := s.Get(kvlock.OwnerKey(d.operation))
		if err != nil {
			return err
		}
		a, o := i.judge(d, entry)
		if o != nil {
			return o
		}
		next, err := i.deps.Locks.StageAdopt(s, tx, d.operation, i.cfg.Worker, token)
		a.rec = next
		found.Store(a)
		if err != nil {
			return err
		}
		tx.Prove(func(e kvtx.Entry) bool {
			now, err := kvlock.DecodeRecord(e)
			if err != nil || now.Epoch != next.Epoch || now.Token != token {
				return false
			}
			there := *a // somebody wrote it since: the fence is not that write's revision, and the news count
			there.rec = now
			found.Store(&there)
			return true
		})
		return nil
	})
	a := found.Load()
	var o *outcome
	var adopted *kvlock.AdoptedError
	switch {
	case errors.As(err, &o):
		if o.kind == Parked {
			i.log.WarnContext(ctx, "operation waits for a node that can run it", "operation", d.operation, "backend", d.backend, "error", o.reason)
		}
		return nil, o
	case err == nil:
		a.rec = i.deps.Locks.Committed(a.rec, res)
		a.grant = i.deps.Locks.GrantOf(a.rec)
		i.deps.Locks.Observe(kvlock.EventOf(kvlock.Adopted, a.rec))
		return a, nil
	case errors.Is(err, kvlock.ErrApplied):
		a.grant = i.deps.Locks.GrantOf(a.rec)
		return a, nil
	case errors.As(err, &adopted): // at this very moment: it has the operation now
		return nil, later(i.cfg.Lease/4, Overtaken, err.Error())
	case ctx.Err() != nil:
		return nil, later(0, LeftOver, err.Error())
	}
	i.log.WarnContext(ctx, "operation could not be taken over", "operation", d.operation, "error", err)
	return nil, later(time.Second, Interrupted, err.Error())
}

// judge reads the operation's record and says whether the delivery is good for a take-over.
func (i *Intake) judge(d delivery, entry kvtx.Entry) (*accepted, *outcome) {
	rec, err := kvlock.DecodeRecord(entry)
	switch {
	case errors.Is(err, kvlock.ErrNotFound):
		return nil, i.prefix(d, fmt.Sprintf("there is no operation %s", d.operation))
	case err != nil:
		return nil, i.unreadable(err)
	case !rec.Live():
		return nil, done(every, Ended, "ended before")
	}
	switch rec.Phase {
	case kvlock.Queued:
		return nil, i.prefix(d, fmt.Sprintf("operation %s waits in line", d.operation))
	case kvlock.Void:
		return nil, done(rec.Dispatch, Dropped, "the operation was broken")
	case kvlock.Stuck:
		return nil, done(rec.Dispatch, Stuck, "the operation is stuck")
	case kvlock.Granted, kvlock.Running, kvlock.Undoing, kvlock.Done, kvlock.Undone:
	}
	switch {
	case d.n < rec.Dispatch:
		return nil, done(d.n, Dropped, fmt.Sprintf("dispatch %d stands for it", rec.Dispatch))
	case d.n > rec.Dispatch:
		return nil, i.prefix(d, fmt.Sprintf("operation %s is at dispatch %d, this is %d", d.operation, rec.Dispatch, d.n))
	}
	return i.accept(d, rec)
}

// accept reads what was accepted and how far it came. What this release does not know is not touched.
func (i *Intake) accept(d delivery, rec kvlock.Record) (*accepted, *outcome) {
	a := &accepted{rec: rec}
	payload, err := sagakv.DecodePayload(rec.Payload)
	if err == nil {
		a.op, err = records.Decode[records.Operation](payload.Request)
	}
	if err == nil {
		a.status, err = payload.Status(rec)
	}
	if err == nil && a.status.Name == "" {
		a.input, err = i.deps.Input(a.op, rec.Dispatch)
	}
	if err != nil {
		return nil, i.unreadable(err)
	}
	if a.op.Backend != d.backend {
		return nil, done(d.n, Dropped, "the operation is with backend "+a.op.Backend)
	}
	def := a.definition(i.deps.Registry)
	if i.steps[def] == nil {
		return nil, later(i.cfg.ParkDelay, Parked, fmt.Sprintf("%s version %d is not known to this release", def.name, def.version))
	}
	return a, nil
}

func (a *accepted) definition(r *saga.Registry) definition {
	if a.status.Name != "" {
		return definition{a.status.Name, a.status.Version}
	}
	name := string(a.op.Kind)
	return definition{name, r.Latest(name)}
}

// unreadable leaves an operation whose record cannot be read here to a node that can.
func (i *Intake) unreadable(err error) *outcome {
	return later(i.cfg.ParkDelay, Parked, "this release cannot read it: "+err.Error())
}
