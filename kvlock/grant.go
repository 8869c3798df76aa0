package kvlock

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Fence orders the workers of one operation, and all operations that write one resource: the era first, then the
// revision of the write that took the operation over. A resource refuses a fence lower than one that it has seen.
type Fence struct {
	Era uint64 // of the stream; raised when it was restored from a backup, after which revisions begin lower
	Rev uint64 // revision of the owner record at the take-over
}

// Compare returns -1, 0 or +1 as f is lower than, equal to or higher than other.
func (f Fence) Compare(other Fence) int {
	return cmp.Or(cmp.Compare(f.Era, other.Era), cmp.Compare(f.Rev, other.Rev))
}

// Less says whether f is lower than other.
func (f Fence) Less(other Fence) bool { return f.Compare(other) < 0 }

// IsZero says whether f is no fence at all.
func (f Fence) IsZero() bool { return f == Fence{} }

// String returns era and revision, as in 1/4711.
func (f Fence) String() string { return fmt.Sprintf("%d/%d", f.Era, f.Rev) }

// Grant is the proof that an operation holds its claims: plain data that can be sent to another process, with nothing
// to keep alive and nothing to leak. Whoever takes the operation over makes all earlier grants stale.
type Grant struct {
	owner    string
	claims   []Claim
	epoch    uint64
	position uint64
	fence    Fence // of an intended one: that of the record that it was made from
	revision kvtx.Revision
	intent   *intent // the take-over that its first save makes; nil: it was made
}

// intent is a take-over that was not made yet.
type intent struct {
	worker, token string
	dispatch      uint64 // of the record that it was made from
}

// Owner is the operation that holds the claims.
func (g Grant) Owner() string { return g.owner }

// Claims returns what is held, sorted by key.
func (g Grant) Claims() []Claim { return slices.Clone(g.claims) }

// Epoch is the number of take-overs that led to this grant; 0 if it is the acquirer's own.
func (g Grant) Epoch() uint64 { return g.epoch }

// Position is the journal position that the next save follows.
func (g Grant) Position() uint64 { return g.position }

// Fence is what a resource compares before it takes a write; zero if the take-over was not made yet.
func (g Grant) Fence() Fence {
	if g.intent != nil {
		return Fence{}
	}
	return g.fence
}

// Intended says that the take-over is not made yet: see [Locker.Intend].
func (g Grant) Intended() bool { return g.intent != nil }

// Revision is that of the owner record when the grant was made or saved last. Others may have written it since.
func (g Grant) Revision() kvtx.Revision { return g.revision }

// IsZero says whether g is no grant at all.
func (g Grant) IsZero() bool { return g.owner == "" }

// Saved returns the grant to go on with after the commit that StageSave was staged into.
func (g Grant) Saved(res kvtx.Result) Grant {
	g.position++
	g.revision = res.Revision(OwnerKey(g.owner))
	if g.intent != nil {
		g.fence.Rev, g.intent = uint64(g.revision), nil
	}
	return g
}

type grantFields struct {
	Owner    string        `msgpack:"id"`
	Claims   []claimFields `msgpack:"claims"`
	Epoch    uint64        `msgpack:"epoch"`
	Position uint64        `msgpack:"pos"`
	Era      uint64        `msgpack:"era"`
	FenceRev uint64        `msgpack:"fence"`
	Revision uint64        `msgpack:"rev"`
}

// MarshalBinary returns the grant as data for another process. Errors: ErrInvalid if its take-over is not made yet.
func (g Grant) MarshalBinary() ([]byte, error) {
	if g.intent != nil {
		return nil, fmt.Errorf("%w: operation %s is not taken over yet: its grant is this process's alone", ErrInvalid, g.owner)
	}
	f := grantFields{
		Owner: g.owner, Claims: encodeClaims(g.claims), Epoch: g.epoch, Position: g.position,
		Era: g.fence.Era, FenceRev: g.fence.Rev, Revision: uint64(g.revision),
	}
	return encode(kindGrant, &f)
}

// UnmarshalBinary reads what MarshalBinary wrote. Errors: ErrNewer, ErrBroken, ErrInvalid.
func (g *Grant) UnmarshalBinary(data []byte) error {
	var f grantFields
	if err := decode(kindGrant, data, &f); err != nil {
		return err
	}
	if err := checkOwner(f.Owner); err != nil {
		return err
	}
	claims, err := Normalize(decodeClaims(f.Claims))
	if err != nil {
		return err
	}
	*g = Grant{
		owner: f.Owner, claims: claims, epoch: f.Epoch, position: f.Position,
		fence: Fence{Era: f.Era, Rev: f.FenceRev}, revision: kvtx.Revision(f.Revision),
	}
	return nil
}
