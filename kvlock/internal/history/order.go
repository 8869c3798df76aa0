package history

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Turn is one operation that got its claims, and when: revisions are the order of a stream.
type Turn struct {
	Owner   string
	Claims  []kvlock.Claim
	Asked   kvtx.Revision // of the write that put it in line, or gave it its claims at once
	Granted kvtx.Revision
}

// FairOrder says who passed an operation that conflicts with it and had asked before.
func FairOrder(turns []Turn) error {
	turns = slices.Clone(turns)
	slices.SortFunc(turns, func(a, b Turn) int { return cmp.Compare(a.Asked, b.Asked) })
	var errs []error
	for i, first := range turns {
		for _, later := range turns[i+1:] {
			if later.Granted < first.Granted && conflict(first.Claims, later.Claims) {
				errs = append(errs, fmt.Errorf("%s asked at %d and was granted at %d; %s asked at %d and was granted at %d, though %v and %v conflict",
					first.Owner, first.Asked, first.Granted, later.Owner, later.Asked, later.Granted, first.Claims, later.Claims))
			}
		}
	}
	return errors.Join(errs...)
}

func conflict(a, b []kvlock.Claim) bool {
	for _, c := range a {
		for _, d := range b {
			if c.Key == d.Key && (c.Mode == kvlock.ModeExclusive || d.Mode == kvlock.ModeExclusive) {
				return true
			}
		}
	}
	return false
}
