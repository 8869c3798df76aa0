package driver

import (
	"cmp"
	"strconv"
)

// Fence tells takers-over of one resource apart: the era of the stream, and the revision of the operation's record at
// the take-over. The zero Fence is below all others.
type Fence struct {
	Era uint64
	Rev uint64
}

// Compare returns -1, 0 or 1: first the era decides, then the revision.
func (f Fence) Compare(other Fence) int {
	return cmp.Or(cmp.Compare(f.Era, other.Era), cmp.Compare(f.Rev, other.Rev))
}

// Less reports whether f is below other.
func (f Fence) Less(other Fence) bool { return f.Compare(other) < 0 }

// String returns era and revision with a dot between them.
func (f Fence) String() string {
	return strconv.FormatUint(f.Era, 10) + "." + strconv.FormatUint(f.Rev, 10)
}
