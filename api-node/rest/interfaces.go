package rest

import (
	"context"
	"iter"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// Reader is the read side. Rows are immutable; iterators go over one state of the tables, newest first (created_at, then
// ID, both descending). Project "" stands for all.
type Reader interface {
	// Wait returns when the read side shows what was committed up to rev.
	Wait(ctx context.Context, rev kvtx.Revision) error

	Volume(id block.VolumeID) (*view.Volume, bool)
	Snapshot(id block.SnapshotID) (*view.Snapshot, bool)
	Attachment(id block.AttachmentID) (*view.Attachment, bool)
	Operation(id block.OperationID) (*view.Operation, bool)

	Volumes(project string) iter.Seq[*view.Volume]
	Snapshots(project string) iter.Seq[*view.Snapshot]
	Attachments(project string) iter.Seq[*view.Attachment]
	Operations(project string) iter.Seq[*view.Operation]

	// Quota returns a project's limits and its use, net of what was given back.
	Quota(project string) (records.Limits, records.Usage)
	Backends() []records.Backend
	Pools() []records.Pool
	Nodes() []records.Node
	Locks() iter.Seq[kvlock.Lock]
	// Waits is what those of the operations wait for that are queued.
	Waits(ops ...*view.Operation) map[block.OperationID]*messages.Waits

	// Lookup is Operation for those too that ended long ago. Errors: view.ErrNotFound, ctx's, others.
	Lookup(ctx context.Context, id block.OperationID) (*view.Operation, error)
	// WaitEnded returns when the operation has ended or is stuck. Errors: as Lookup, view.ErrStopped.
	WaitEnded(ctx context.Context, id block.OperationID) (*view.Operation, error)
	// Follow yields each state of the operation until it has ended. Errors: as WaitEnded.
	Follow(ctx context.Context, id block.OperationID) iter.Seq2[*view.Operation, error]
}

// Submitter is admission. Its errors are *messages.Error with the text that goes to the caller.
type Submitter interface {
	Submit(ctx context.Context, s admit.Submission) (admit.Accepted, error)
	UpdateVolume(ctx context.Context, c admit.Caller, id block.VolumeID, p admit.Patch) (block.Volume, kvtx.Revision, error)
	UpdateSnapshot(ctx context.Context, c admit.Caller, id block.SnapshotID, p admit.Patch) (block.Snapshot, kvtx.Revision, error)
	// Reserve makes an attachment of a host that has not said yet who it is.
	Reserve(ctx context.Context, c admit.Caller, volume block.VolumeID, attachment block.AttachmentID, instance string, readOnly bool) (block.Attachment, kvtx.Revision, error)
	CompleteAttachment(ctx context.Context, c admit.Caller, id block.AttachmentID) (kvtx.Revision, error)
	Cancel(ctx context.Context, c admit.Caller, id block.OperationID, reason string) error
	Resume(ctx context.Context, c admit.Caller, id block.OperationID, reason string) error
	Abandon(ctx context.Context, c admit.Caller, id block.OperationID, reason string) error
	// Break returns the operation whose locks it takes away, as soon as it knows it, also with an error.
	Break(ctx context.Context, c admit.Caller, b admit.Break) (block.OperationID, error)
	// Forget removes the records of a backend that nobody serves and nothing stands on.
	Forget(ctx context.Context, c admit.Caller, backend string) (kvtx.Revision, error)
}

// Stream is the way to what everything rests on.
type Stream interface {
	// Await returns when the stream can be asked, as far as is known: at once, unless its connection has just been lost. Its error is a
	// *messages.Error that names who does not answer, or ctx's.
	Await(ctx context.Context) error
	// While is ctx, ended when the stream stops answering: context.Cause is such an error then.
	While(ctx context.Context) (context.Context, context.CancelFunc)
	// Stale is how long what the Reader shows may be out of date; 0: it is not.
	Stale() time.Duration
}

// steady is a Stream that always answers.
type steady struct{}

func (steady) Await(context.Context) error { return nil }

func (steady) While(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

func (steady) Stale() time.Duration { return 0 }

// Verifier compares the books with what there is.
type Verifier interface {
	Verify(ctx context.Context) (verify.Report, error)
}
