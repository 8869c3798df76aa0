package kvlock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/scoria-storage/scoria/kvlock"
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

// verb is what was done to one key, as its caller saw it.
type verb struct {
	owner   string
	mode    kvlock.Mode // wanted; ModeNone: given back
	refused bool
	holders string // of a refusal: who held the key
}

// history collects what the callers saw of each key.
type history struct {
	begin time.Time
	mu    sync.Mutex
	keys  map[string][]porcupine.Operation
}

func (h *history) now() int64 { return time.Since(h.begin).Nanoseconds() }

func (h *history) add(client int, key string, call int64, v verb) {
	end := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[key] = append(h.keys[key], porcupine.Operation{ClientId: client, Input: v, Call: call, Return: end})
}

// holding is the state of one key in the model: "mode owner,owner…" with the owners sorted; "" is free.
type holding string

func (s holding) parts() (mode kvlock.Mode, owners []string) {
	if s == "" {
		return kvlock.ModeNone, nil
	}
	m, list, _ := strings.Cut(string(s), " ")
	n, _ := strconv.Atoi(m)
	return kvlock.Mode(n), strings.Split(list, ",")
}

func makeHolding(mode kvlock.Mode, owners []string) holding {
	if len(owners) == 0 {
		return ""
	}
	owners = slices.Sorted(slices.Values(owners))
	return holding(strconv.Itoa(int(mode)) + " " + strings.Join(owners, ","))
}

// step is the whole specification of a lock.
func step(s holding, v verb) (bool, holding) {
	mode, owners := s.parts()
	switch {
	case v.mode == kvlock.ModeNone:
		rest := slices.DeleteFunc(slices.Clone(owners), func(o string) bool { return o == v.owner })
		return len(rest) == len(owners)-1, makeHolding(mode, rest)
	case v.refused:
		conflict := mode == kvlock.ModeExclusive || mode == kvlock.ModeShared && v.mode == kvlock.ModeExclusive
		return conflict && strings.Join(owners, ",") == v.holders, s
	case mode == kvlock.ModeNone, mode == kvlock.ModeShared && v.mode == kvlock.ModeShared:
		return true, makeHolding(v.mode, append(slices.Clone(owners), v.owner))
	}
	return false, s
}

var lockModel = porcupine.Model{
	Init: func() any { return holding("") },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := step(state.(holding), input.(verb))
		return ok, next
	},
}

// actor runs operations one after another on one process of several.
type actor struct {
	t       *testing.T
	client  int
	rng     *rand.Rand
	lockers []*kvlock.Locker // its own process first
	faults  *kvlocktest.Faults
	keys    []string
	h       *history
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
	call := a.h.now()
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
			slices.Sort(holders)
			a.h.add(a.client, c.Claim.Key, call, verb{owner: owner, mode: c.Claim.Mode, refused: true, holders: strings.Join(holders, ",")})
		}
		return
	case err != nil:
		a.t.Errorf("TryAcquire(%s): %v", owner, err)
		return
	}
	for _, c := range claims {
		a.h.add(a.client, c.Key, call, verb{owner: owner, mode: c.Mode})
	}
	a.finish(ctx, owner, g, claims)
}

// gaveUp notes that an operation which gave up had its claims for a moment, if it was granted just then.
func (a *actor) gaveUp(ctx context.Context, owner string, call int64, claims []kvlock.Claim) {
	rec, err := a.lockers[0].Record(ctx, owner)
	if errors.Is(err, kvlock.ErrNotFound) || err == nil && rec.Granted.IsZero() {
		return
	}
	if err != nil || rec.Live() {
		a.t.Errorf("Record(%s) after giving up is %s, %v: want it ended", owner, rec.Phase, err)
	}
	for _, c := range claims {
		a.h.add(a.client, c.Key, call, verb{owner: owner, mode: c.Mode})
		a.h.add(a.client, c.Key, call, verb{owner: owner})
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
	call := a.h.now()
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
		a.h.add(a.client, c.Key, call, verb{owner: owner})
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
	h := &history{begin: time.Now(), keys: map[string][]porcupine.Operation{}}

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
			t: t, client: i, rng: rand.New(rand.NewPCG(s, uint64(i))), h: h, faults: faults[own],
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
	for key, ops := range h.keys {
		refused := 0
		for _, op := range ops {
			if op.Input.(verb).refused {
				refused++
			}
		}
		t.Logf("key %s: %d events, %d refusals", key, len(ops), refused)
		switch porcupine.CheckOperationsTimeout(lockModel, ops, time.Minute) {
		case porcupine.Ok:
		case porcupine.Illegal:
			t.Errorf("key %s: the history is not that of a lock", key)
		case porcupine.Unknown:
			t.Errorf("key %s: the history was not decided in time", key)
		}
		if refused == 0 {
			t.Errorf("key %s: nothing was refused: the test is blind", key)
		}
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

// The model must see what it is there to see.
func TestTheModelOfALockIsNotBlind(t *testing.T) {
	t.Parallel()
	at := func(call, ret int64, v verb) porcupine.Operation {
		return porcupine.Operation{Input: v, Call: call, Return: ret}
	}
	x, s := kvlock.ModeExclusive, kvlock.ModeShared
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		want bool
	}{
		"readers together": {[]porcupine.Operation{
			at(0, 1, verb{owner: "a", mode: s}), at(2, 3, verb{owner: "b", mode: s}), at(4, 5, verb{owner: "a"}),
		}, true},
		"two writers":            {[]porcupine.Operation{at(0, 1, verb{owner: "a", mode: x}), at(2, 3, verb{owner: "b", mode: x})}, false},
		"reader beside a writer": {[]porcupine.Operation{at(0, 1, verb{owner: "a", mode: x}), at(2, 3, verb{owner: "b", mode: s})}, false},
		"writer beside a reader": {[]porcupine.Operation{at(0, 1, verb{owner: "a", mode: s}), at(2, 3, verb{owner: "b", mode: x})}, false},
		"handed over while the release runs": {[]porcupine.Operation{
			at(0, 1, verb{owner: "a", mode: x}), at(2, 9, verb{owner: "a"}), at(3, 4, verb{owner: "b", mode: x}),
		}, true},
		"refused for nothing":   {[]porcupine.Operation{at(0, 1, verb{owner: "a", mode: x, refused: true})}, false},
		"refused for the wrong": {[]porcupine.Operation{at(0, 1, verb{owner: "a", mode: x}), at(2, 3, verb{owner: "b", mode: x, refused: true, holders: "c"})}, false},
		"released twice":        {[]porcupine.Operation{at(0, 1, verb{owner: "a", mode: x}), at(2, 3, verb{owner: "a"}), at(4, 5, verb{owner: "a"})}, false},
	} {
		if got := porcupine.CheckOperations(lockModel, c.ops); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
