package kvlock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/internal/history"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// seed returns the test's seed and prints it; KVLOCK_SEED repeats a run.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64()
	if v := os.Getenv("KVLOCK_SEED"); v != "" {
		var err error
		if s, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("KVLOCK_SEED: %v", err)
		}
	}
	t.Logf("KVLOCK_SEED=%d", s)
	return s
}

// actor runs operations one after another on one process of several.
type actor struct {
	t       *testing.T
	client  int
	rng     *rand.Rand
	lockers []*kvlock.Locker // its own process first
	faults  *kvlocktest.Faults
	keys    []string
	rec     *history.Recorder
	waits   bool // some operations wait in line
}

func (a *actor) claims() []kvlock.Claim {
	keys := slices.Clone(a.keys)
	a.rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	var claims []kvlock.Claim
	for _, k := range keys[:1+a.rng.IntN(len(keys))] {
		if a.rng.IntN(3) == 0 {
			claims = append(claims, kvlock.Exclusive(k))
		} else {
			claims = append(claims, kvlock.Shared(k))
		}
	}
	return claims
}

// operation lives one operation from its claims to its end, perhaps through other processes.
func (a *actor) operation(ctx context.Context, owner string) {
	claims := a.claims()
	if a.rng.IntN(4) == 0 {
		fault := []kvlocktest.Fault{kvlocktest.RequestLost, kvlocktest.AnswerLost}[a.rng.IntN(2)]
		a.faults.Arm(fault, 1+a.rng.IntN(5), nil, kvtx.Write, kvtx.Batch)
	}
	call := a.rec.Begin()
	defer call.End()
	g, err := a.acquire(ctx, owner, claims)
	var conflict *kvlock.ConflictError
	switch {
	case errors.Is(err, errGaveUp):
		a.gaveUp(ctx, owner, call, claims)
		return
	case errors.As(err, &conflict):
		for _, c := range conflict.Conflicts {
			if len(c.Holders) == 0 {
				continue // who waits is not in the model
			}
			var holders []string
			for _, h := range c.Holders {
				holders = append(holders, h.Owner)
			}
			call.Saw(c.Claim.Key, history.Lock{Verb: history.Refuse, Owner: owner, Mode: c.Claim.Mode, Holders: history.Holders(holders)})
		}
		return
	case err != nil:
		a.t.Errorf("TryAcquire(%s): %v", owner, err)
		return
	}
	for _, c := range claims {
		call.Saw(c.Key, history.Lock{Verb: history.Take, Owner: owner, Mode: c.Mode})
	}
	a.finish(ctx, owner, g, claims)
}

// gaveUp notes that an operation which gave up had its claims for a moment, if it was granted just then.
func (a *actor) gaveUp(ctx context.Context, owner string, call history.Call, claims []kvlock.Claim) {
	rec, err := a.lockers[0].Record(ctx, owner)
	if errors.Is(err, kvlock.ErrNotFound) || err == nil && rec.Granted.IsZero() {
		return
	}
	if err != nil || rec.Live() {
		a.t.Errorf("Record(%s) after giving up is %s, %v: want it ended", owner, rec.Phase, err)
	}
	for _, c := range claims {
		call.Saw(c.Key, history.Lock{Verb: history.Take, Owner: owner, Mode: c.Mode})
		call.Saw(c.Key, history.Lock{Verb: history.Give, Owner: owner})
	}
}

var errGaveUp = errors.New("gave up waiting")

// acquire claims, and perhaps waits, for as long as it takes or for a moment.
func (a *actor) acquire(ctx context.Context, owner string, claims []kvlock.Claim) (kvlock.Grant, error) {
	if !a.waits || a.rng.IntN(3) == 0 {
		return a.lockers[0].TryAcquire(ctx, owner, nil, claims...)
	}
	if a.rng.IntN(3) > 0 {
		long, cancel := context.WithTimeout(ctx, time.Minute) // nobody holds for as long as that
		defer cancel()
		return a.lockers[0].Acquire(long, owner, nil, kvlock.Wait{}, claims...)
	}
	short, cancel := context.WithTimeout(ctx, time.Duration(1+a.rng.IntN(40))*time.Millisecond)
	defer cancel()
	g, err := a.lockers[0].Acquire(short, owner, nil, kvlock.Wait{}, claims...)
	if err == nil {
		return g, nil
	}
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, kvlock.ErrDeadline) && !errors.Is(err, kvlock.ErrVoid) && !errors.Is(err, kvlock.ErrInvalid) {
		a.t.Errorf("Acquire(%s) for a moment: %v", owner, err)
	}
	return g, errGaveUp
}

// finish moves the operation about and ends it in one of the ways that there are.
func (a *actor) finish(ctx context.Context, owner string, g kvlock.Grant, claims []kvlock.Claim) {
	l := a.lockers[a.rng.IntN(len(a.lockers))]
	if a.rng.IntN(2) == 0 {
		next, _, err := l.Adopt(ctx, owner, "w", "d-"+owner)
		if err != nil {
			a.t.Errorf("Adopt(%s): %v", owner, err)
			return
		}
		if err := a.lockers[0].Release(ctx, g); !errors.Is(err, kvlock.ErrAdopted) {
			a.t.Errorf("Release(%s) with a stale grant: %v", owner, err)
		}
		g = next
	}
	if a.rng.IntN(2) == 0 {
		var err error
		if g, err = l.Save(ctx, g, kvlock.Running, []byte("x")); err != nil {
			a.t.Errorf("Save(%s): %v", owner, err)
			return
		}
	}
	call := a.rec.Begin()
	defer call.End()
	var err error
	switch a.rng.IntN(4) {
	case 0:
		err = l.End(ctx, g, kvlock.Undone, []byte("y"))
	case 1:
		err = l.Break(ctx, owner, "test", kvlock.NothingFenced)
	default:
		err = l.Release(ctx, g)
	}
	if err != nil {
		a.t.Errorf("end of %s: %v", owner, err)
		return
	}
	for _, c := range claims {
		call.Saw(c.Key, history.Lock{Verb: history.Give, Owner: owner})
	}
}

// Invariants 7.1 and 7.3: whatever several processes do at the same moment, with answers and requests lost, the history
// of each key is one of a lock that has no two writers and no reader beside a writer, and no lock is without a live
// operation, at any time.
func TestNeverTwoExclusiveHoldersNorAReaderBesideAWriterInAnyHistory(t *testing.T) {
	t.Parallel()
	checkHistory(t, 12, false, func(*natstest.Server) {})
}

func TestHistoriesHoldOverRestartsOfTheServer(t *testing.T) {
	t.Parallel()
	checkHistory(t, 6, false, func(srv *natstest.Server) {
		for range 3 {
			srv.Restart(t)
		}
	})
}

// Invariant 7.6: operations that wait are all granted or give up, in any history, and no line, no lock and no wake is left behind.
func TestNoWaiterIsForgottenInAnyHistory(t *testing.T) {
	t.Parallel()
	checkHistory(t, 12, true, func(*natstest.Server) {})
}

// checkHistory lets several processes live operations at random while the server is disturbed.
func checkHistory(t *testing.T, operations int, waits bool, disturb func(srv *natstest.Server)) {
	const processes, actorsEach = 3, 5
	s := seed(t)
	srv := natstest.Start(t)
	lockers := make([]*kvlock.Locker, processes)
	faults := make([]*kvlocktest.Faults, processes)
	for i := range lockers {
		faults[i] = &kvlocktest.Faults{}
		lockers[i] = kvlock.New(srv.Store(t, kvtx.WithInterceptor(faults[i].Intercept)))
	}
	rec := history.NewRecorder()

	ctx, stop := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	auditor := kvlock.New(srv.Store(t))
	watch.Go(func() { auditWhile(ctx, t, auditor) })
	if waits {
		watch.Go(func() {
			if err := auditor.ServeWakes(ctx); err != nil {
				t.Errorf("ServeWakes: %v", err)
			}
		})
	}

	var wg sync.WaitGroup
	for i := range processes * actorsEach {
		own := i % processes
		a := &actor{
			t: t, client: i, rng: rand.New(rand.NewPCG(s, uint64(i))), rec: rec, faults: faults[own],
			lockers: append([]*kvlock.Locker{lockers[own]}, lockers...), keys: []string{"a", "b", "c"},
			waits: waits,
		}
		wg.Go(func() {
			for n := range operations {
				a.operation(t.Context(), fmt.Sprintf("op-%d-%d", a.client, n))
			}
		})
	}
	disturb(srv)
	wg.Wait()
	stop()
	watch.Wait()

	kvlocktest.RequireFree(t, lockers[0])
	kvlocktest.RequireSound(t, lockers[0])
	if err := rec.Check(history.Locks, time.Minute); err != nil {
		t.Error(err)
	}
	events := rec.Count(func(any, bool) bool { return true })
	refused := rec.Count(func(e any, _ bool) bool { return e.(history.Lock).Verb == history.Refuse })
	if t.Logf("%d events, %d refusals", events, refused); refused == 0 {
		t.Error("nothing was refused: the test is blind")
	}
}

// auditWhile verifies again and again until ctx ends.
func auditWhile(ctx context.Context, t *testing.T, l *kvlock.Locker) {
	rounds := 0
	for ; ctx.Err() == nil; rounds++ {
		problems, err := l.Verify(ctx)
		if err != nil && ctx.Err() == nil {
			t.Errorf("verify: %v", err)
			return
		}
		for _, p := range problems {
			t.Errorf("verify in round %d: %s", rounds, p)
		}
	}
	t.Logf("%d rounds of verification", rounds)
}
