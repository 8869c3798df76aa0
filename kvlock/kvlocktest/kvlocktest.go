// Package kvlocktest helps to test programs that use kvlock.
//
// RequireFree, RequireHeld and RequireSound look at the records; Faults disturbs the exchange of a store with its
// server, once or at every n-th exchange: a request that never arrives, or late; an answer that is lost; a caller that gives up. A real
// server for tests is in natstest, a package of its own, so that this one needs no nats-server.
//
// Invariants: the Require functions change nothing; Disarm and Met say whether, and how often, a fault was met, so that a test whose fault was
// never met can fail; after Disarm nothing is on its way.
package kvlocktest

import (
	"slices"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
)

// RequireFree fails the test unless nobody holds the keys or waits for them. Without keys, it is about all keys.
func RequireFree(t testing.TB, l *kvlock.Locker, keys ...string) {
	t.Helper()
	for lock, err := range l.Locks(t.Context()) {
		if err != nil {
			t.Fatalf("read locks: %v", err)
		}
		if len(keys) == 0 || slices.Contains(keys, lock.Key) {
			t.Fatalf("key %s is %s: held by %v, waited for by %v; want it free", lock.Key, lock.Mode, lock.Holders, lock.Line)
		}
	}
}

// RequireHeld fails the test unless the owner's operation is live and holds each claim in its mode.
func RequireHeld(t testing.TB, l *kvlock.Locker, owner string, claims ...kvlock.Claim) {
	t.Helper()
	rec, err := l.Record(t.Context(), owner)
	if err != nil {
		t.Fatalf("read operation %s: %v", owner, err)
	}
	if !rec.Live() {
		t.Fatalf("operation %s has ended, %s; want it to hold %v", owner, rec.Phase, claims)
	}
	for _, c := range claims {
		lock, err := l.Holders(t.Context(), c.Key)
		if err != nil {
			t.Fatalf("read lock %s: %v", c.Key, err)
		}
		if lock.Mode != c.Mode || !lock.Holds(owner) {
			t.Fatalf("key %s is %s, held by %v; want %s by %s", c.Key, lock.Mode, lock.Holders, c.Mode, owner)
		}
	}
}

// RequireSound fails the test if a lock names an operation that is not live, or a live operation lacks a lock.
func RequireSound(t testing.TB, l *kvlock.Locker) {
	t.Helper()
	problems, err := l.Verify(t.Context())
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	for _, p := range problems {
		t.Errorf("verify: %s", p)
	}
	if len(problems) > 0 {
		t.FailNow()
	}
}
