// Package driver says what a storage backend does for Scoria, and holds what all backends share.
//
// A Driver keeps volumes and snapshots on one backend. The steps of operations call it; nothing else changes a backend.
//
// # Nouns
//
//   - Volume, Snapshot: things on the backend. Their IDs are chosen by the operation, never by the driver.
//   - Ref: a volume or a snapshot by kind and ID.
//   - Call: who calls – the operation and the fence of the worker that runs it – and whom to tell of progress.
//   - Fence: era and revision of the operation's record at its take-over. It rises with each take-over.
//   - Spec: a backend as it stands in a flag, NAME=KIND[:key=value,…]. Registry: the kinds that a program knows.
//   - Interceptor: a function put round every call of a driver (delays, tests).
//
// # Invariants
//
//   - Every call may be repeated. Create with the same ID and size: success; with another size: ErrExists. Delete of
//     what is missing: success. Extend takes the size to reach and never shrinks. Revert may be repeated.
//   - A thing is there whole or not at all. What a call that was cut off left behind is redone by the same call,
//     removed by the delete of the same operation, or removed by Cleanup once its operation has ended.
//   - The fences that a thing has seen only rise. A call with a lower one is refused with ErrFenced and changes
//     nothing, and once RaiseFence or any other call with a higher fence has returned, no write of a call with a
//     lower fence lands on that thing, whatever becomes of its process.
//   - Fences are compared for the thing that is written. Reading a source neither checks nor raises its fence, and
//     takes no lock: that a source is not changed meanwhile is what the operation's claims are for.
//   - What is copied, extended or exported has the size that the caller says it has. If not, something other than Scoria
//     changed it, and the call is refused with ErrSize: zeros must never stand for data that was lost.
//   - A new volume never shows old data: what was not written, and what lies beyond the source's end, reads as zeros.
//   - A clone is independent of its source, and the deletion of a snapshot never hurts what was made from it.
//   - A call that returned success is durable: it survives the loss of power.
//   - An error that matches ErrUnknown means that the call may or may not have taken effect: call again, or Look.
//     After any other error the thing is as it was before the call.
//
// # What it does not do
//
// No quotas, no claims, no records, no choice of a pool, no exports: see operations and export. A driver takes the
// locks that keep its own calls apart itself (package lock).
package driver

import "context"

// VolumeID names a volume on the backend. It matches [A-Za-z0-9_-]{1,64}.
type VolumeID string

// SnapshotID names a snapshot on the backend. It matches [A-Za-z0-9_-]{1,64}.
type SnapshotID string

// Ref returns the reference to the volume.
func (id VolumeID) Ref() Ref { return Ref{Kind: KindVolume, ID: string(id)} }

// Ref returns the reference to the snapshot.
func (id SnapshotID) Ref() Ref { return Ref{Kind: KindSnapshot, ID: string(id)} }

// Volume is a volume with its size.
type Volume struct {
	ID    VolumeID
	Bytes int64
}

// Snapshot is a snapshot of a volume; Bytes is the size of the volume when it was taken.
type Snapshot struct {
	ID     SnapshotID
	Volume VolumeID
	Bytes  int64
}

// Kind says what a Ref or an Object is.
type Kind string

// The kinds. Only volumes and snapshots can be addressed; List shows the others too.
const (
	KindVolume    Kind = "volume"
	KindSnapshot  Kind = "snapshot"
	KindTemporary Kind = "temporary" // left behind by a call that was cut off; Object.Operation says whose
	KindForeign   Kind = "foreign"   // not made by Scoria
)

// Ref is a volume or a snapshot.
type Ref struct {
	Kind Kind
	ID   string
}

func (r Ref) String() string { return string(r.Kind) + " " + r.ID }

// Object is what the backend says of a thing that it keeps.
type Object struct {
	Ref
	Volume    VolumeID // of a snapshot; empty where the backend does not keep it
	Operation string   // of a temporary: the operation that made it
	Bytes     int64    // the size that a host sees
	UsedBytes int64    // what it takes on the backend; shared parts count in each that shares them
	Extents   int      // pieces of its map; 0: not known. List leaves it out
}

// Call says on whose behalf a driver is called.
type Call struct {
	// Operation is the ID of the operation; temporaries carry it in their names.
	Operation string
	// Fence of the worker that runs the operation.
	Fence Fence
	// Hold is set when hosts have the source of a copy open. The driver calls it just before it takes the copy, which
	// makes the hosts' writes wait, and calls release right after. If release returns an error, what was copied is not
	// one state of the source: the driver throws it away and returns that error. A driver that would have to copy
	// slowly answers ErrBusyOpen without calling it, so that no host waits for a copy.
	Hold func(ctx context.Context) (release func() error, err error)
	// Progress, if set, is told how many bytes of a long copy are done. It is called from the caller's goroutine.
	Progress func(done, total int64)
	// Waiting, if set, is told in words what the call waits for, when it begins to wait and again now and then.
	Waiting func(why string)
}

// Capacity is what the backend has, in bytes.
type Capacity struct {
	TotalBytes int64
	FreeBytes  int64
	// Oversubscription is how many times TotalBytes may be promised to thin volumes; at least 1.
	Oversubscription float64
}

// Source says how an exporter opens a volume.
type Source struct {
	Path  string // absolute; a regular file or a block device
	Bytes int64
}

// Driver keeps volumes and snapshots on one backend. All methods may be called from many goroutines at once.
// The package's invariants bind every method.
type Driver interface {
	// Info says what the driver can do. It is the same for the life of the driver.
	Info() Info
	// Capacity asks the backend how much room it has.
	Capacity(ctx context.Context) (Capacity, error)

	// CreateVolume makes an empty volume that reads as zeros. ErrExists if it is there with another size.
	CreateVolume(ctx context.Context, call Call, dst Volume) error
	// CloneVolume makes dst with the content of src, zeros beyond it. ErrShrink if dst is smaller, ErrNotFound if
	// src is missing (and dst too), ErrSize, ErrBusyOpen, ErrExists.
	CloneVolume(ctx context.Context, call Call, dst, src Volume) error
	// CreateFromSnapshot makes dst with the content of src, zeros beyond it. Errors as CloneVolume.
	CreateFromSnapshot(ctx context.Context, call Call, dst Volume, src Snapshot) error
	// ExtendVolume makes v to bytes large. It is v.Bytes large, or to already if the call is repeated: else ErrSize.
	// ErrShrink if to is less than v.Bytes, ErrNotFound.
	ExtendVolume(ctx context.Context, call Call, v Volume, to int64) error
	// DeleteVolume removes the volume, and what the same operation left of it.
	DeleteVolume(ctx context.Context, call Call, id VolumeID) error
	// CreateSnapshot makes a snapshot of dst.Volume, which is dst.Bytes large. ErrSize, ErrNotFound, ErrBusyOpen,
	// ErrExists.
	CreateSnapshot(ctx context.Context, call Call, dst Snapshot) error
	// DeleteSnapshot removes the snapshot, and what the same operation left of it.
	DeleteSnapshot(ctx context.Context, call Call, snap Snapshot) error
	// RevertVolume gives the volume the content of the snapshot and the size dst.Bytes, zeros beyond the snapshot.
	// What was written since is lost, and a volume that has become smaller than it should be is whole again. Nobody may
	// have the volume open. ErrShrink if dst is smaller than the snapshot or the volume, ErrSize of the snapshot,
	// ErrNotFound if either is missing.
	RevertVolume(ctx context.Context, call Call, dst Volume, src Snapshot) error

	// RaiseFence raises the fence of a thing, which need not exist, to call.Fence: when it returns nil, no call
	// with a lower fence is writing the thing or will. It waits for one that does, and may end its process
	// (protocol of the lock class). ErrFenced if the thing has seen a higher one.
	RaiseFence(ctx context.Context, call Call, ref Ref) error

	// List tells of everything on the backend, in no order. An error of fn ends it and is returned as it is.
	List(ctx context.Context, fn func(Object) error) error
	// Look tells of one thing. ErrNotFound.
	Look(ctx context.Context, ref Ref) (Object, error)
	// Source says how an exporter opens the volume. ErrNotFound, ErrSize.
	Source(ctx context.Context, v Volume) (Source, error)

	// Cleanup removes the temporaries of operations that ended says have ended, and what else is no longer of use.
	Cleanup(ctx context.Context, ended func(operation string) bool) error
	// Close gives up what the driver holds. No other call may run or follow.
	Close() error
}
