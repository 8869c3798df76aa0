// Package block is the domain kernel of Scoria: volumes, snapshots and attachments, their states and the legal
// moves between them. It knows nothing of messages, stores or backends and uses the standard library only.
//
// Nouns: a volume is a disk of a project; a snapshot is its content at one moment; an attachment is the way of one
// volume to one host. A holder is the operation that has a resource exclusively. A settled status stands in a
// record; a shown status is what users see.
//
// Invariants:
//   - A record holds settled states only. What is transitional (extending, deleting, reverting …) is derived from
//     the holder, so no transitional status can outlive its operation. The one exception is "creating", which
//     stands in the record of a resource until the operation that makes it has ended.
//   - A volume lists all its snapshots and attachments; these sets change in the commit that makes or removes the
//     child, so "has no snapshots" is decided on one record.
//   - The status that attachments give a volume is computed in one place, VolumeStatusOf.
//
// It does not decide who may do what: that is api-node/admit.
package block

import (
	"errors"
	"fmt"
)

// IDs are types of their own, so that they cannot be swapped. All are UUIDs in their canonical text form.
type (
	VolumeID     string
	SnapshotID   string
	AttachmentID string
	OperationID  string
)

// Kind names what an operation does.
type Kind string

const (
	VolumeCreate   Kind = "volume.create"
	VolumeDelete   Kind = "volume.delete"
	VolumeExtend   Kind = "volume.extend"
	VolumeRevert   Kind = "volume.revert"
	VolumeAttach   Kind = "volume.attach"
	VolumeDetach   Kind = "volume.detach"
	SnapshotCreate Kind = "snapshot.create"
	SnapshotDelete Kind = "snapshot.delete"
)

// Kinds lists every kind, in the order in which people read them.
func Kinds() []Kind {
	return []Kind{VolumeCreate, VolumeDelete, VolumeExtend, VolumeRevert, VolumeAttach, VolumeDetach, SnapshotCreate, SnapshotDelete}
}

// Valid reports whether k is one of Kinds.
func (k Kind) Valid() bool {
	for _, known := range Kinds() {
		if k == known {
			return true
		}
	}
	return false
}

// GiB is a size in gibibytes (2^30 bytes), the unit of the Block Storage API.
type GiB int64

// MaxSize is the largest volume in GiB, as in Cinder, whose clients know a size as a number of 32 bits. In bytes it stays below 2^63.
const MaxSize GiB = 1<<31 - 1

// Bytes returns the size in bytes.
func (g GiB) Bytes() int64 { return int64(g) << 30 }

// Holder says which operation has a resource exclusively. The zero Holder is none.
type Holder struct {
	Operation OperationID
	Kind      Kind
	// Resource is what the operation makes or changes: of a key that several attachments share, the one that it is about.
	Resource string
	// Stuck: the operation could neither end nor be undone, and waits for an operator.
	Stuck bool
}

// maxToken is the length of the longest token of a key or a subject.
const maxToken = 64

// ErrToken is what CheckToken's errors match.
var ErrToken = errors.New("not a token")

// CheckToken reports whether s may become a token of keys and subjects: 1 to 64 characters of [A-Za-z0-9_-].
func CheckToken(s string) error {
	if s == "" || len(s) > maxToken {
		return fmt.Errorf("%w: %q has %d characters, 1 to %d are allowed", ErrToken, clip(s), len(s), maxToken)
	}
	for i := range len(s) {
		if !tokenByte(s[i]) {
			return fmt.Errorf("%w: %q holds %q, only letters, digits, _ and - are allowed", ErrToken, s, s[i])
		}
	}
	return nil
}

func tokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func clip(s string) string {
	if len(s) > maxToken {
		return s[:maxToken] + "…"
	}
	return s
}

func hexDigit(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

// IsUUID reports whether s is a UUID in canonical form: 8-4-4-4-12 lower-case hexadecimal digits.
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !hexDigit(s[i]) {
				return false
			}
		}
	}
	return true
}
