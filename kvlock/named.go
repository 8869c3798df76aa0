package kvlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// named begins the keys of named locks.
const named = "named."

// NamedKey is the key of a named lock, as it stands among the claims of the operation that has it. No operation can claim it from its beginning.
func NamedKey(name string) string { return named + name }

func (c Claim) isNamed() bool { return strings.HasPrefix(c.Key, named) }

// StageLockNamed stages that an operation that runs takes a named lock: one more key, exclusively, for a moment inside of its work, such
// as a pool of storage that several nodes reach. fence is that of the operation's worker, or of the break of a void one.
//
// A named lock has no line: the record of one who waits would be its granter's to write, and that of an operation that runs is its
// worker's. So nobody waits in it, and no operation holds it while it waits for anything: one that is held is refused, to be tried again.
// An operation has one at a time; another one that it still has is given back. The worker's progress is left alone. Whatever ends the
// operation, or has it stuck, gives it back, if its worker could not.
//
// Read Keys(owner, Exclusive(NamedKey(name))). Errors: *ConflictError if another operation has it; ErrAdopted if the operation has another
// fence; ErrApplied, with the record, if it has the lock already; ErrNotFound, ErrEnded, ErrQueued, ErrStuck, ErrEra, ErrTooLarge, ErrInvalid.
func (l *Locker) StageLockNamed(s kvtx.Snapshot, tx *kvtx.Tx, owner string, fence Fence, name string) (Record, error) {
	rec, err := l.worked(s, owner, fence)
	if err != nil {
		return rec, err
	}
	if rec.Phase == Stuck {
		return rec, fmt.Errorf("%w: %s", ErrStuck, owner)
	}
	claim := Exclusive(NamedKey(name))
	if slices.Contains(rec.Claims, claim) {
		return rec, fmt.Errorf("%w: operation %s has the lock named %s", ErrApplied, owner, name)
	}
	h := l.handover(s)
	if !h.giveBack(&rec) {
		return rec, h.err
	}
	if rec.Claims, err = Normalize(append(rec.Claims, claim)); err != nil {
		return rec, err
	}
	lk := h.lock(claim.Key)
	if lk == nil {
		return rec, h.err
	}
	if conflict, ok := lk.conflict(claim); ok {
		return rec, &ConflictError{Owner: owner, Conflicts: []Conflict{conflict}}
	}
	lk.add(owner, claim.Mode, l.now())
	h.write(lk)
	return rec, h.stageWith(tx, &rec)
}

// StageUnlockNamed stages that an operation gives its named lock back. Read Keys(owner, Exclusive(NamedKey(name))).
// Errors: as StageLockNamed's, but the first; ErrApplied if it does not have it.
func (l *Locker) StageUnlockNamed(s kvtx.Snapshot, tx *kvtx.Tx, owner string, fence Fence, name string) (Record, error) {
	rec, err := l.worked(s, owner, fence)
	if err != nil {
		return rec, err
	}
	if !slices.Contains(rec.Claims, Exclusive(NamedKey(name))) {
		return rec, fmt.Errorf("%w: operation %s does not have the lock named %s", ErrApplied, owner, name)
	}
	h := l.handover(s)
	if !h.giveBack(&rec) {
		return rec, h.err
	}
	return rec, h.stageWith(tx, &rec)
}

// LockNamed is StageLockNamed as a commit of its own. Repeated, it is no error.
func (l *Locker) LockNamed(ctx context.Context, owner string, fence Fence, name string) error {
	return l.setNamed(ctx, l.StageLockNamed, owner, fence, name)
}

// UnlockNamed is StageUnlockNamed as a commit of its own. Repeated, it is no error.
func (l *Locker) UnlockNamed(ctx context.Context, owner string, fence Fence, name string) error {
	return l.setNamed(ctx, l.StageUnlockNamed, owner, fence, name)
}

type stageNamed func(s kvtx.Snapshot, tx *kvtx.Tx, owner string, fence Fence, name string) (Record, error)

func (l *Locker) setNamed(ctx context.Context, stage stageNamed, owner string, fence Fence, name string) error {
	key := NamedKey(name)
	if err := errors.Join(checkOwner(owner), checkKey(key)); err != nil {
		return err
	}
	_, err := l.update(ctx, l.Keys(owner, Exclusive(key)), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return stage(s, tx, owner, fence, name)
	})
	if errors.Is(err, ErrApplied) {
		return nil
	}
	return err
}

// worked returns the record of an operation that holds its claims and whose worker has the fence.
func (l *Locker) worked(s kvtx.Snapshot, owner string, fence Fence) (Record, error) {
	if fence.Era != l.era {
		return Record{}, fmt.Errorf("%w: operation %s has a fence of era %d, the stream is in era %d", ErrEra, owner, fence.Era, l.era)
	}
	rec, err := read(s, owner)
	switch {
	case err != nil:
		return rec, err
	case !rec.Live():
		return rec, fmt.Errorf("%w: %s, %s", ErrEnded, owner, rec.Phase)
	case rec.Phase == Queued:
		return rec, fmt.Errorf("%w: %s", ErrQueued, owner)
	case rec.Fence() != fence:
		return rec, fmt.Errorf("%w: operation %s has fence %s, the caller %s", ErrAdopted, owner, rec.Fence(), fence)
	}
	return rec, nil
}

// giveBack takes the operation's named locks away from it. It says whether all of them could be read.
func (h *handover) giveBack(rec *Record) bool {
	for _, c := range rec.Claims {
		if c.isNamed() && !h.takeOut(rec.Owner, c.Key) {
			return false
		}
	}
	rec.Claims = slices.DeleteFunc(slices.Clone(rec.Claims), Claim.isNamed)
	h.run() // nobody should wait in such a line
	return true
}

// stageWith stages the record first, then what was handed over.
func (h *handover) stageWith(tx *kvtx.Tx, rec *Record) error {
	if err := rec.stage(tx); err != nil {
		return err
	}
	return h.stage(tx, false)
}
