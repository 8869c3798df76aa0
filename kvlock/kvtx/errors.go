package kvtx

import (
	"errors"
	"strings"
)

var (
	// ErrConflict is matched by [*ConflictError].
	ErrConflict = errors.New("kvtx: a key has changed")
	// ErrInDoubt says that a commit was sent and that it is not known whether it applied: the caller's
	// context ended, or the store was closed, before the server answered. It may still apply.
	ErrInDoubt = errors.New("kvtx: not known whether the commit applied")
	// ErrInvalid says that a transaction or an argument cannot be sent to any server.
	ErrInvalid = errors.New("kvtx: invalid")
	// ErrTooLarge says that a transaction is larger than a commit can be.
	ErrTooLarge = errors.New("kvtx: too large for one commit")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("kvtx: store is closed")
	// ErrStream is matched by [*StreamError].
	ErrStream = errors.New("kvtx: stream cannot be used")
	// ErrNoRoom says that the server has no room for the commit: its disk is full, or a limit is reached. Nothing was written.
	ErrNoRoom = errors.New("kvtx: the server has no room")
	// ErrBusy says that too many commits are under way in this process: see [WithLimit]. Nothing was read or written; the same call may be
	// made again later.
	ErrBusy = errors.New("kvtx: busy")
	// ErrServer says that the server is too old or lacks JetStream.
	ErrServer = errors.New("kvtx: server cannot be used")
	// ErrStreamReplaced says that the stream was deleted and made again, or lost data, while it was open: revisions from before
	// mean nothing in it. The store refuses everything from then on; open it again.
	ErrStreamReplaced = errors.New("kvtx: stream was made again, or lost data, behind this process")
)

// ConflictError says that a commit was refused because keys had changed. Nothing was written.
type ConflictError struct {
	// Keys are those that had moved when they were looked at again; empty if none had (the server may
	// refuse a commit because of another one that was in flight and was then not made).
	Keys []string
}

func (e *ConflictError) Error() string {
	if len(e.Keys) == 0 {
		return "kvtx: commit refused because of another one in flight on the same keys"
	}
	return "kvtx: changed by others: " + strings.Join(e.Keys, ", ")
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// StreamError says which setting of the stream differs from what a commit needs.
type StreamError struct {
	Stream string
	Field  string // As in the stream's JSON configuration, such as "allow_atomic".
	Got    string
	Want   string
}

func (e *StreamError) Error() string {
	return "kvtx: stream " + e.Stream + ": " + e.Field + " is " + e.Got + ", must be " + e.Want
}

// Is makes errors.Is(err, ErrStream) true.
func (e *StreamError) Is(target error) bool { return target == ErrStream }
