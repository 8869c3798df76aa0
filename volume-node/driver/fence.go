package driver

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
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

// String returns era and revision with a dot between them; ParseFence reads it.
func (f Fence) String() string {
	return strconv.FormatUint(f.Era, 10) + "." + strconv.FormatUint(f.Rev, 10)
}

// ParseFence reads what String writes.
func ParseFence(s string) (Fence, error) {
	era, rev, ok := strings.Cut(s, ".")
	e, errEra := strconv.ParseUint(era, 10, 64)
	r, errRev := strconv.ParseUint(rev, 10, 64)
	if !ok || errEra != nil || errRev != nil {
		return Fence{}, fmt.Errorf("fence %q: want ERA.REVISION", s)
	}
	return Fence{Era: e, Rev: r}, nil
}
