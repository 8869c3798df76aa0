// Package operations holds what each kind of operation does: one saga definition per kind, in a file named as the kind.
//
// Nouns: a definition is a saga of package saga, registered under the operation's kind; an Env is what its steps work
// with; the state of a run is made from the request that was accepted, with everything that admission decided filled in.
//
// Invariants:
//   - Every definition has the same frame: the first step checks again what the operation needs, since what a waiting
//     operation waited for may have changed, but for what requests that wait behind it brought (aside); then come steps
//     that change one system each; what users see of the outcome is staged in the hooks Done and Undone, and so stands in
//     the commit that ends the operation and frees its locks.
//   - The pool is reserved before anything is made on the backend, in the same commit that journals it, and given back
//     in the commit that ends the operation without it: Pool.AllocatedGiB is the sum of ReservedGiB at every moment.
//   - What is gone is credited to the project in the commit that removes its record, never earlier.
//   - A worker that is not the first (epoch above 1) raises the fence of what the step writes before it looks at it.
//   - No step takes a lock on a source: that nobody changes it meanwhile is what the operation's shared claim says.
//   - An operation that makes something may be undone until it ended; one that destroys something (delete, detach) checks
//     first, and from then on is repeated until the thing is gone.
//   - A copy of a volume that hosts write to is taken under a hold of the export server, or refused in words where the
//     backend cannot copy in a moment: there an attach waits for copies that were accepted before it, and they go on.
//
// It does not consume dispatches or take operations over: that is package intake. It does not decide what is accepted:
// that is admission, on the other side of the stream.
package operations

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/export"
)

// Env is what the steps work with.
type Env struct {
	Store *kvtx.Store
	Locks *kvlock.Locker
	// Drivers by the name of their backend: those that this node serves.
	Drivers map[string]driver.Driver
	// Exporter is nil on a node whose backends have nothing to export.
	Exporter export.Exporter
	// NodeName stands in connections and names the node's credit records; NodeID is the ID behind the name.
	NodeName string
	NodeID   string
	Log      *slog.Logger // nil: discard
}

// Registry returns the definitions of all kinds, bound to the environment.
func Registry(env Env) *saga.Registry {
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	e := &env
	r := new(saga.Registry)
	saga.MustRegister(r, e.volumeCreate())
	saga.MustRegister(r, e.volumeDelete())
	saga.MustRegister(r, e.volumeExtend())
	saga.MustRegister(r, e.volumeRevert())
	saga.MustRegister(r, e.volumeAttach())
	saga.MustRegister(r, e.volumeDetach())
	saga.MustRegister(r, e.snapshotCreate())
	saga.MustRegister(r, e.snapshotDelete())
	return r
}

// Input makes the first state of an operation's run from what was accepted. dispatch is the operation's valid dispatch
// number. Errors: *messages.Error if the request is of a kind, a version or a form that is not known here.
func Input(op records.Operation, dispatch uint64) (any, error) {
	req, err := messages.DecodeRequest(op.Kind, op.Version, op.Request)
	if err != nil {
		return nil, err
	}
	switch req := req.(type) {
	case *messages.CreateVolume:
		return newVolumeCreate(op, req, dispatch), nil
	case *messages.DeleteVolume:
		return volumeDelete{Backend: op.Backend, Volume: req.Volume}, nil
	case *messages.ExtendVolume:
		return volumeExtend{Backend: op.Backend, Volume: req.Volume, ToGiB: req.SizeGiB, ChargeGiB: req.ChargeGiB, Created: req.Created, AllowAttached: req.AllowAttached}, nil
	case *messages.RevertVolume:
		return volumeRevert{Backend: op.Backend, Volume: req.Volume, Snapshot: req.Snapshot}, nil
	case *messages.AttachVolume:
		return volumeAttach{Backend: op.Backend, Volume: req.Volume, Attachment: req.Attachment, ReadOnly: req.ReadOnly}, nil
	case *messages.DetachVolume:
		return volumeDetach{Backend: op.Backend, Volume: req.Volume, Attachment: req.Attachment}, nil
	case *messages.CreateSnapshot:
		return snapshotCreate{Backend: op.Backend, Snapshot: req.Snapshot, Volume: req.Volume, SizeGiB: req.SizeGiB, Queued: op.Queue}, nil
	case *messages.DeleteSnapshot:
		return snapshotDelete{Backend: op.Backend, Snapshot: req.Snapshot, Volume: req.Volume}, nil
	}
	return nil, messages.Errorf(messages.CodeUnsupported, "there is no saga for %s", op.Kind)
}

// Patience of steps. Waits are jittered.
var (
	// tryDriver is for calls that may be given up: about half a minute in all.
	tryDriver = saga.Retry{Max: 10, Min: 200 * time.Millisecond, Ceiling: 8 * time.Second}
	// untilDone is for steps that must succeed: each failure is visible, none is the last.
	untilDone = saga.Retry{Max: saga.Forever, Min: 200 * time.Millisecond, Ceiling: 30 * time.Second}
	// tryUndo is for taking something back; then the run is stuck.
	tryUndo = saga.Retry{Max: 12, Min: 200 * time.Millisecond, Ceiling: 15 * time.Second}
)

// refuse is an error that ends the operation: trying again would not change it. The code goes with it to the record.
func refuse(code messages.Code, format string, args ...any) error {
	return refused(messages.Errorf(code, format, args...))
}

func refused(e *messages.Error) error { return saga.Permanent(saga.Coded(string(e.Code), e)) }

// worldChanged says that an operation was undone because what it was to work on is not as it was when it was accepted. One that was to
// wait in line leaves nothing then: nobody was told that it had begun.
func worldChanged(cause error) bool {
	c, ok := errors.AsType[*saga.Cause](cause)
	if !ok {
		return false
	}
	return slices.Contains(changed, messages.Code(c.Code))
}

var changed = []messages.Code{messages.CodeNotFound, messages.CodeInvalidVolume, messages.CodeInvalidSnapshot, messages.CodeInvalid}

// words is why a run was undone, for the record's field Fault.
func words(cause error) string {
	if c, ok := errors.AsType[*saga.Cause](cause); ok {
		return c.Message
	}
	return cause.Error()
}

func now() time.Time { return time.Now().UTC() }

// invalidVolume and invalidSnapshot speak as the Block Storage API does.
func invalidVolume(id block.VolumeID, format string, args ...any) error {
	return refuse(messages.CodeInvalidVolume, "Invalid volume: Volume %s %s", id, fmt.Sprintf(format, args...))
}

func invalidSnapshot(id block.SnapshotID, format string, args ...any) error {
	return refuse(messages.CodeInvalidSnapshot, "Invalid snapshot: Snapshot %s %s", id, fmt.Sprintf(format, args...))
}
