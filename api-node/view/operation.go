package view

import (
	"context"
	"fmt"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// newOperation reads an operation's record.
func newOperation(e kvtx.Entry) (*Operation, error) {
	rec, err := kvlock.DecodeRecord(e)
	if err != nil {
		return nil, err
	}
	payload, err := sagakv.DecodePayload(rec.Payload)
	if err != nil {
		return nil, fmt.Errorf("operation %s: %w", rec.Owner, err)
	}
	req, err := records.Decode[records.Operation](payload.Request)
	if err != nil {
		return nil, fmt.Errorf("operation %s: %w", rec.Owner, err)
	}
	run, err := payload.Status(rec)
	if err != nil {
		return nil, fmt.Errorf("operation %s: %w", rec.Owner, err)
	}
	op := &Operation{
		Operation: messages.Operation{
			ID: req.ID, Kind: same(req.Kind), Project: same(req.Project), User: same(req.User), Resource: req.Resource,
			Phase: rec.Phase.String(), Ended: !rec.Live(),
			Step: same(run.Step), Done: run.Index, Total: run.Steps, Worker: same(rec.Worker), Epoch: rec.Epoch, TakenOver: rec.TakenOver,
			Submitted: req.Submitted, EndedAt: rec.Ended, Claims: make([]messages.Claim, len(rec.Claims)),
		},
		Backend: same(req.Backend), Dispatch: rec.Dispatch, RequestID: req.RequestID,
		StepSince: run.Since, Tries: run.Failed, Pivoted: run.Past,
		Adopted: rec.Adopted, Deadline: rec.Deadline, Cancel: rec.Cancel, Audit: rec.Audit,
		Fence: rec.Fence(), Revision: e.Revision,
	}
	for i, c := range rec.Claims {
		op.Claims[i] = messages.Claim{Key: c.Key, Mode: c.Mode.String()}
	}
	op.say(run)
	return op, nil
}

// say fills in how often the step was tried and what went wrong.
func (o *Operation) say(run saga.Status) {
	if o.Epoch > 0 && !o.Ended {
		o.Attempt = run.Attempt()
	}
	switch {
	case run.Stuck != nil && !o.Ended:
		o.Error = run.Stuck.Error()
	case run.Cause != nil:
		o.Error = run.Cause.Error()
	case len(run.Last) > 0 && !o.Ended:
		last := run.Last[len(run.Last)-1]
		o.Error = last.Step + ": " + last.Message
	case o.Phase == kvlock.Void.String() && len(o.Audit) > 0:
		last := o.Audit[len(o.Audit)-1]
		what := map[string]string{"break": "broken: ", "leave": "gave up waiting: "}[last.Action]
		if last.Action == "break" && last.Phase == kvlock.Stuck {
			what = "given up: " // abandoned, or its locks broken
		}
		o.Error = what + last.Reason
	}
}

// Lookup returns the operation from the view, or, if it is not there, from the bucket's leader. Errors: ErrNotFound, ctx's and the
// store's.
func (v *View) Lookup(ctx context.Context, id block.OperationID) (*Operation, error) {
	if op, ok := v.Operation(id); ok {
		return op, nil
	}
	if !block.IsUUID(string(id)) {
		return nil, fmt.Errorf("%w: %.80q", ErrNotFound, id)
	}
	e, err := v.store.Get(ctx, kvlock.OwnerKey(string(id)))
	if err != nil {
		return nil, err
	}
	if !e.Exists {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return newOperation(e)
}
