// Package messages is the language that API nodes, volume nodes and programs speak: the requests and results of all
// operations, the envelope they travel in, subjects and error codes.
//
// Nouns: a Request asks for one operation and names its kind; an Envelope carries a request over NATS; a Reply accepts it,
// refuses it with an Error, or tells its result; an Update says how an operation goes on.
//
// Invariants:
//   - A request that passed Validate holds no value that a key, a subject or a path could be attacked with.
//   - A message of a newer version or of an unknown kind is refused in words, never guessed at. Unknown fields of a
//     known version are ignored; one that stands twice is refused.
//   - Each format has a golden file in testdata that is never edited; fields are added, never renamed, reused or retyped.
//   - Every error that crosses the wire is an Error with a Code of this package.
//
// Log attributes have these keys everywhere, and no others. What it is about: operation, kind, resource, volume,
// attachment, export, project, user, backend, node, worker, key, keys, lock, claims, members, source, bytes, extents, read_only. How
// it goes: phase, step, attempt, epoch, fence, revision, reason, error, note, in_doubt, took, retry_in, limit, stack. Who has what is
// waited for: holder_operation, holder_fence, holder_pid. Of processes and requests: request_id, method, route, status,
// subject, server, pid, path, socket, control, line.
//
// It does not decide whether a request is accepted: that is api-node/admit.
package messages

import (
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
)

// Request asks for one operation.
type Request interface {
	// Kind names the operation.
	Kind() block.Kind
	// Version is the format of the request's fields.
	Version() int
	// Validate checks the fields alone, without looking at any record. The error is an *Error that names the field.
	Validate() error
	// Claims are the locks that the operation needs. All IDs must be set.
	Claims() []kvlock.Claim
	// Resource is the ID of what the operation makes or changes.
	Resource() string
}

// New returns an empty request of the kind and version, to be decoded into.
func New(kind block.Kind, version int) (Request, error) {
	if version != 1 {
		return nil, Errorf(CodeUnsupported, "%s in version %d is not known here, only version 1", kind, version)
	}
	switch kind {
	case block.VolumeCreate:
		return new(CreateVolume), nil
	case block.VolumeDelete:
		return new(DeleteVolume), nil
	case block.VolumeExtend:
		return new(ExtendVolume), nil
	case block.VolumeRevert:
		return new(RevertVolume), nil
	case block.VolumeAttach:
		return new(AttachVolume), nil
	case block.VolumeDetach:
		return new(DetachVolume), nil
	case block.SnapshotCreate:
		return new(CreateSnapshot), nil
	case block.SnapshotDelete:
		return new(DeleteSnapshot), nil
	}
	return nil, Errorf(CodeUnsupported, "there is no operation of kind %q", clip(string(kind)))
}
