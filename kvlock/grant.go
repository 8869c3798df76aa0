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
	fence    Fence
	revision kvtx.Revision
}

// Owner is the operation that holds the claims.
func (g Grant) Owner() string { return g.owner }

// Claims returns what is held, sorted by key.
func (g Grant) Claims() []Claim { return slices.Clone(g.claims) }

// Epoch is the number of take-overs that led to this grant; 0 if it is the acquirer's own.
func (g Grant) Epoch() uint64 { return g.epoch }

// Position is the journal position that the next save follows.
func (g Grant) Position() uint64 { return g.position }

// Fence is what a resource compares before it takes a write.
func (g Grant) Fence() Fence { return g.fence }

// Revision is that of the owner record when the grant was made or saved last. Others may have written it since.
func (g Grant) Revision() kvtx.Revision { return g.revision }

// IsZero says whether g is no grant at all.
func (g Grant) IsZero() bool { return g.owner == "" }

// Saved returns the grant to go on with after the commit that StageSave was staged into.
func (g Grant) Saved(res kvtx.Result) Grant {
	g.position++
	g.revision = res.Revision(OwnerKey(g.owner))
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

// MarshalBinary returns the grant as data for another process.
func (g Grant) MarshalBinary() ([]byte, error) {
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
