package sim

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/kvlock"
)

// names are those of the named locks.
var names = []string{"x", "y"}

func (a *actor) anyName() string { return names[a.rng.IntN(len(names))] }

// isNamed says whether a key is that of a named lock.
func isNamed(key string) bool { return strings.HasPrefix(key, kvlock.NamedKey("")) }

// hasNamed says whether one of the claims is that of a named lock.
func hasNamed(claims []kvlock.Claim) bool {
	return slices.ContainsFunc(claims, func(c kvlock.Claim) bool { return isNamed(c.Key) })
}

// takeNamed takes a named lock for an operation and works under it. Some give it back, or what an earlier worker has left; the others leave
// that to the next one whom they take, or to whatever ends the operation. It says whether the grant is still good.
func (a *actor) takeNamed(g kvlock.Grant) bool {
	if i := slices.IndexFunc(g.Claims(), func(c kvlock.Claim) bool { return isNamed(c.Key) }); i >= 0 && a.rng.IntN(2) == 0 {
		a.p.w.count("named lock of an earlier worker")
		return a.giveBack(g, strings.TrimPrefix(g.Claims()[i].Key, kvlock.NamedKey("")))
	}
	name := a.anyName()
	err := a.until("takes a named lock", func(ctx context.Context) error { return a.p.locks.LockNamed(ctx, g.Owner(), g.Fence(), name) })
	if errors.Is(err, kvlock.ErrConflict) {
		a.p.w.count("named lock refused")
		return true
	}
	if !a.isCurrent(g, "LockNamed", err) || !a.turn("works under a named lock") {
		return false
	}
	a.p.w.count("named lock taken")
	a.p.w.truth.useNamed(g, name)
	return a.rng.IntN(2) == 0 || a.giveBack(g, name)
}

// giveBack gives a named lock back. It says whether the grant is still good.
func (a *actor) giveBack(g kvlock.Grant, name string) bool {
	err := a.until("gives a named lock back", func(ctx context.Context) error { return a.p.locks.UnlockNamed(ctx, g.Owner(), g.Fence(), name) })
	if !a.isCurrent(g, "UnlockNamed", err) {
		return false
	}
	a.p.w.truth.notNamed(g, name)
	return true
}

// isCurrent says whether a verb of a named lock has found its grant to be that of its operation.
func (a *actor) isCurrent(g kvlock.Grant, what string, err error) bool {
	if a.expect(what, err, kvlock.ErrAdopted, kvlock.ErrEnded, kvlock.ErrNotFound) {
		return true
	}
	a.overtaken(g, err)
	return false
}

// useNamed is a worker's work under a named lock that it was given. No fence keeps one away that was overtaken: of two operations, the one
// with the lower fence may have the lock later.
func (t *truth) useNamed(g kvlock.Grant, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lock := t.locks[kvlock.NamedKey(name)]
	if t.isRight(g) && !lock.Holds(g.Owner()) {
		t.w.fail("%s works under the lock named %s, which is held by %v", g.Owner(), name, lock.Holders)
	}
}

// notNamed holds that an operation does not have the named lock that its worker has given back.
func (t *truth) notNamed(g kvlock.Grant, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lock := t.locks[kvlock.NamedKey(name)]
	if t.isRight(g) && lock.Holds(g.Owner()) {
		t.w.fail("%s has given the lock named %s back, and holds it", g.Owner(), name)
	}
}

// namedOf are the named locks that an operation claims.
func namedOf(rec kvlock.Record) []kvlock.Claim {
	return slices.DeleteFunc(slices.Clone(rec.Claims), func(c kvlock.Claim) bool { return !isNamed(c.Key) })
}

// checkNamed holds that one operation at most has a named lock, and that it is at work.
func (t *truth) checkNamed(key string, lock kvlock.Lock) {
	if len(lock.Holders) > 1 || lock.Mode == kvlock.ModeShared || len(lock.Line) > 0 {
		t.w.fail("key %s is %s, held by %v, waited for by %v", key, lock.Mode, lock.Holders, lock.Line)
	}
}

// checkClaims holds that an operation has one named lock at most, and none while nobody is at work.
func (t *truth) checkClaims(rec kvlock.Record) {
	if claims := namedOf(rec); len(claims) > 1 || len(claims) > 0 && (rec.Phase == kvlock.Queued || rec.Phase == kvlock.Stuck) {
		t.w.fail("%s is %s and has the named locks %v", rec.Owner, rec.Phase, claims)
	}
}
