package driver

import "errors"

// What a caller branches on. Drivers wrap them with the facts; errors.Is finds them.
var (
	// ErrNoSpace: the backend is full. Nothing was left behind.
	ErrNoSpace = errors.New("no space left on the backend")
	// ErrFenced: the thing has seen a higher fence; the caller was overtaken and must stop.
	ErrFenced = errors.New("fenced: a worker with a higher fence took over")
	// ErrExists: a thing of that ID is there with another size.
	ErrExists = errors.New("exists with another size")
	// ErrNotFound: the thing, or the source of a copy, is not there.
	ErrNotFound = errors.New("not found on the backend")
	// ErrShrink: the size asked for is below the present one or below the source's.
	ErrShrink = errors.New("would shrink")
	// ErrSize: a thing does not have the size that the caller says it has.
	ErrSize = errors.New("something other than Scoria changed its size")
	// ErrUnsupported: this backend cannot do that.
	ErrUnsupported = errors.New("not supported by this backend")
	// ErrBusyOpen: hosts have the source open and the backend can only copy it slowly.
	ErrBusyOpen = errors.New("source is open, and this backend cannot clone an open volume")
	// ErrUnknown: the driver cannot tell whether the call took effect.
	ErrUnknown = errors.New("not known whether it took effect")
	// ErrAway: the storage is not where it was opened, or not all of it, as when its file system was unmounted. The call changed
	// nothing, and may be repeated: it succeeds once the storage is back.
	ErrAway = errors.New("the storage is away")
	// ErrInvalid: an ID, a size or an operation that no driver accepts.
	ErrInvalid = errors.New("invalid argument")
)
