package kvlock_test

import (
	"errors"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

func newLocker(t *testing.T, opts ...kvlock.Option) *kvlock.Locker {
	t.Helper()
	return kvlock.New(natstest.Start(t).Store(t), opts...)
}

func acquire(t *testing.T, l *kvlock.Locker, owner string, claims ...kvlock.Claim) kvlock.Grant {
	t.Helper()
	g, err := l.TryAcquire(t.Context(), owner, nil, claims...)
	if err != nil {
		t.Fatalf("TryAcquire(%s, %v): %v", owner, claims, err)
	}
	return g
}

func adopt(t *testing.T, l *kvlock.Locker, owner, token string) kvlock.Grant {
	t.Helper()
	g, _, err := l.Adopt(t.Context(), owner, "worker-of-"+token, token)
	if err != nil {
		t.Fatalf("Adopt(%s, %s): %v", owner, token, err)
	}
	return g
}

func save(t *testing.T, l *kvlock.Locker, g kvlock.Grant, phase kvlock.Phase, payload string) kvlock.Grant {
	t.Helper()
	g, err := l.Save(t.Context(), g, phase, []byte(payload))
	if err != nil {
		t.Fatalf("Save(%s, %s): %v", g.Owner(), phase, err)
	}
	return g
}

func record(t *testing.T, l *kvlock.Locker, owner string) kvlock.Record {
	t.Helper()
	rec, err := l.Record(t.Context(), owner)
	if err != nil {
		t.Fatalf("Record(%s): %v", owner, err)
	}
	return rec
}

// wantErr fails the test unless err matches every one of the sentinels.
func wantErr(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%s: error %v, want %v", what, err, w)
		}
	}
}
