package model

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/internal/long"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// replayWorlds have what can be replayed: no expiry, which takes an hour, no limit but kvlock's own, one deadline.
var replayWorlds = []World{
	{Name: "writers for two keys", Keys: 2, Limit: kvlock.MaxGrants, Stale: true,
		Ops:    []Spec{writer(a), writer(b), writer(a | b).leaves(), writer(a | b)},
		Budget: budget{Crash: 1, Lost: 3, Twice: 1, Broken: 1, Stuck: 1, Redispatch: 1}},
	{Name: "readers and writers", Keys: 3, Limit: kvlock.MaxGrants, Stale: true,
		Ops:    []Spec{writer(a | b).downgrades(), writer(b | c).until(), reader(a | b | c).leaves(), reader(a).refused()},
		Budget: budget{Crash: 1, Lost: 3, Twice: 1, Broken: 1}},
	{Name: "clients that are the workers", Keys: 2, Limit: kvlock.MaxGrants, Stale: true,
		Ops:    []Spec{writer(a).own(), writer(a | b).own().leaves(), writer(b).own().until(), reader(a | b)},
		Budget: budget{Crash: 1, Lost: 1, Broken: 1}},
}

// TestKvlockDoesWhatTheModelDoes walks through the model at random, does the same with kvlock on a real server, old reads included, and
// compares all records and messages after each step.
func TestKvlockDoesWhatTheModelDoes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		replayAll(t, 5)
		return
	}
	did, old := replayAll(t, 40)
	for k := range kinds {
		if k != CopyApplies && k != CopyDies && k != Expire && k != AskReused && did[k] == 0 {
			t.Errorf("no walk had the step: %s", kindWords[k])
		}
	}
	if old == 0 {
		t.Error("no walk had an old read")
	}
}

// TestLongWalksOfTheModel is for make long.
func TestLongWalksOfTheModel(t *testing.T) {
	long.For(t)
	replayAll(t, 2_000)
}

// replayAll replays so many walks of each world. It returns how often each kind of step was in them, and how many steps read what was old.
func replayAll(t *testing.T, walks int) (did [kinds]int, old int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed(t), 0))
	store := natstest.Start(t, func(o *server.Options) { o.SyncAlways = false }).Store(t)
	steps := 0
	for n := range walks {
		for _, w := range replayWorlds {
			r := newReplay(t, store, w, fmt.Sprintf("w%d", n))
			for r.next(rnd) {
			}
			for _, st := range r.walk {
				did[st.Kind]++
				if st.Stale != 0 {
					old++
				}
				steps++
			}
		}
	}
	t.Logf("%d steps, %d of them with old reads", steps, old)
	return did, old
}

// seed returns the test's seed and prints it; KVLOCK_SEED repeats a run.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64()
	if text := os.Getenv("KVLOCK_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("KVLOCK_SEED: %v", err)
		}
	}
	t.Logf("KVLOCK_SEED=%d", s)
	return s
}

// replay is one walk: the model's state, and the records that kvlock made.
type replay struct {
	t     *testing.T
	m     *Model
	s     State
	walk  []Step
	store *kvtx.Store
	locks *kvlock.Locker
	name  string
	now   time.Time

	grants   [slots]kvlock.Grant
	tokens   [slots]string
	subjects []string              // that have a message
	seen     [MaxKeys][]kvtx.Entry // the lock records as they stood, newest last
}

func newReplay(t *testing.T, store *kvtx.Store, w World, name string) *replay {
	r := &replay{t: t, m: New(w, Correct), store: store, name: name + "-" + strings.ReplaceAll(w.Name, " ", "-"), now: time.UnixMilli(1e12)}
	r.locks = kvlock.New(store, kvlock.WithClock(func() time.Time { return r.now }))
	return r
}

func (r *replay) owner(i uint8) string { return r.name + "-" + opName(i) }
func (r *replay) key(k int) string     { return r.name + "." + keyName(k) }

func (r *replay) claims(i uint8) []kvlock.Claim {
	var claims []kvlock.Claim
	for k := range r.m.Keys {
		switch r.m.mode(&r.s, i, k) {
		case Free:
		case Shared:
			claims = append(claims, kvlock.Shared(r.key(k)))
		case Exclusive:
			claims = append(claims, kvlock.Exclusive(r.key(k)))
		}
	}
	return claims
}

func (r *replay) fatalf(format string, args ...any) {
	r.t.Helper()
	var text strings.Builder
	for i, st := range r.walk {
		fmt.Fprintf(&text, "%3d. %s\n", i+1, st)
	}
	r.t.Fatalf("%s: %s\n%s", r.m.Name, fmt.Sprintf(format, args...), text.String())
}

// next does one more step, chosen at random, in the model and with kvlock, and compares. It says whether there was one.
func (r *replay) next(rnd *rand.Rand) bool {
	var may []Moment
	r.m.Steps(&r.s, false, func(st Step, t *State, _ Property) {
		// A wake that is served reads for itself.
		if *t != r.s && (st.Stale == 0 || st.Kind != ServeWake && st.Kind != ServeTwice) {
			may = append(may, Moment{st, *t})
		}
	})
	if len(may) == 0 {
		return false
	}
	choice := choose(rnd, may)
	r.walk = append(r.walk, choice.Step)
	if err := r.do(choice.Step, &choice.State); err != nil {
		r.fatalf("%v", err)
	}
	r.settle(choice.Step, &choice.State)
	r.s = choice.State
	r.compare()
	return true
}

// choose takes a kind of step, then one of these. Old reads are rare, and what the test is for.
func choose(rnd *rand.Rand, may []Moment) Moment {
	kind := may[rnd.IntN(len(may))].Step.Kind
	if rnd.IntN(2) == 0 {
		present := map[Kind]bool{}
		for _, m := range may {
			present[m.Step.Kind] = true
		}
		of := slices.Sorted(maps.Keys(present))
		kind = of[rnd.IntN(len(of))]
	}
	may = slices.DeleteFunc(may, func(m Moment) bool { return m.Step.Kind != kind })
	if old := slices.IndexFunc(may, func(m Moment) bool { return m.Step.Stale != 0 }); old >= 0 && rnd.IntN(2) == 0 {
		return may[old]
	}
	return may[rnd.IntN(len(may))]
}

// snapshot shows some records as they stood earlier.
type snapshot struct {
	kvtx.Snapshot
	old map[string]kvtx.Entry
}

func (s snapshot) Get(key string) (kvtx.Entry, error) {
	if e, ok := s.old[key]; ok {
		return e, nil
	}
	return s.Snapshot.Get(key)
}

// commit makes a commit that reads what the step reads.
func (r *replay) commit(st Step, stage func(kvtx.Snapshot, *kvtx.Tx) error) error {
	old := map[string]kvtx.Entry{}
	for k := range r.m.Keys {
		if st.Stale&bit(k) != 0 {
			old[kvlock.LockKey(r.key(k))] = r.asItStood(k)
		}
	}
	_, err := r.store.Update(r.t.Context(), nil, func(s kvtx.Snapshot, tx *kvtx.Tx) error { return stage(snapshot{s, old}, tx) })
	return err
}

// asItStood returns the newest entry of a lock that is what the model says somebody may still believe.
func (r *replay) asItStood(k int) kvtx.Entry {
	for _, e := range slices.Backward(r.seen[k]) {
		if lock, err := kvlock.DecodeLock(e); err == nil && r.modelLock(lock) == r.s.Old[k] {
			return e
		}
	}
	r.fatalf("lock %s never stood as %+v", keyName(k), r.s.Old[k])
	return kvtx.Entry{}
}

// do does with kvlock what the step does in the model.
func (r *replay) do(st Step, to *State) error {
	ctx, i := r.t.Context(), st.Op
	grant := &r.grants[st.Slot]
	switch st.Kind {
	case Ask, AskLost:
		return r.submit(i, to.Ops[i].Client == Refused)
	case AskAgain:
		if err := r.submit(i, false); !errors.Is(err, kvlock.ErrExists) {
			return fmt.Errorf("asked again: error %v, want %w", err, kvlock.ErrExists)
		}
	case Leave, LeaveLate:
		return r.commit(st, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			_, err := r.locks.StageLeave(s, tx, r.owner(i), "test")
			return err
		})
	case DeadlineOver:
		r.now = r.now.Add(2 * time.Hour)
	case Release:
		rec, err := r.locks.Record(ctx, r.owner(i))
		if err != nil {
			return err
		}
		return r.end(st, r.locks.GrantOf(rec))
	case TakeOver, TakeOverLost:
		r.tokens[st.Slot] = fmt.Sprint(len(r.walk))
		return r.adopt(st, grant)
	case TakeOverUnmade:
		r.tokens[st.Slot] = fmt.Sprint(len(r.walk))
	case TakeOverAgain:
		if to.Slots[st.Slot].Stage == Adopted {
			return r.adopt(st, grant)
		}
	case Stop:
		if _, err := r.locks.Save(ctx, *grant, kvlock.Running, nil); !errors.Is(err, kvlock.ErrAdopted) && !errors.Is(err, kvlock.ErrNotFound) {
			return fmt.Errorf("save of a worker that was overtaken: %w", err)
		}
	case End, EndLost:
		return r.end(st, *grant)
	case EndAgain:
		return r.locks.End(ctx, *grant, kvlock.Done, nil)
	case GetStuck:
		_, err := r.locks.Save(ctx, *grant, kvlock.Stuck, nil)
		return err
	case Downgrade:
		return r.downgrade(st, grant)
	case MakeVoid:
		_, err := r.locks.Void(ctx, r.owner(i), "test")
		return err
	case EndVoid:
		rec, err := r.locks.Void(ctx, r.owner(i), "test")
		if err != nil {
			return err
		}
		return r.commit(st, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			_, err := r.locks.StageBroken(s, tx, rec, nil)
			return err
		})
	case Resume, DispatchAgain:
		return r.again(st)
	case ServeWake, ServeTwice:
		return r.locks.Grant(ctx, r.key(int(st.Key)))
	case ClientDies, Drop, RaiseFence, Acknowledge, WorkerDies, RaiseVoid: // they write no record
	case CopyApplies, CopyDies, Expire, AskReused, kinds:
		return fmt.Errorf("a step that cannot be replayed: %s", st)
	}
	return nil
}

// submit asks for the operation as package admit does. refused: that is the answer to expect.
func (r *replay) submit(i uint8, refused bool) error {
	sp := &r.m.Ops[i]
	err := r.commit(Step{}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		if sp.Queue {
			var wait kvlock.Wait
			if sp.Deadline {
				wait.Deadline = r.now.Add(time.Hour)
			}
			if !sp.Own {
				wait.Dispatch = "req." + r.name + "." + opName(i)
			}
			_, err := r.locks.StageQueue(s, tx, r.owner(i), nil, wait, r.claims(i)...)
			return err
		}
		rec, err := r.locks.StageAcquire(s, tx, r.owner(i), nil, r.claims(i)...)
		if err == nil {
			r.dispatch(tx, i, rec.Dispatch)
		}
		return err
	})
	if refused && errors.Is(err, kvlock.ErrConflict) {
		return nil
	}
	if refused {
		return fmt.Errorf("submit: %v, want a conflict", err)
	}
	return err
}

func (r *replay) subject(i uint8, n uint64) string {
	return r.store.DispatchSubject("req", r.name, opName(i), fmt.Sprint(n))
}

func (r *replay) dispatch(tx *kvtx.Tx, i uint8, n uint64) { tx.Publish(r.subject(i, n), nil, nil) }

func (r *replay) adopt(st Step, g *kvlock.Grant) (err error) {
	*g, _, err = r.locks.Adopt(r.t.Context(), r.owner(st.Op), "worker", r.tokens[st.Slot])
	return err
}

func (r *replay) end(st Step, g kvlock.Grant) error {
	return r.commit(st, func(s kvtx.Snapshot, tx *kvtx.Tx) error { return r.locks.StageEnd(s, tx, g, kvlock.Done, nil) })
}

func (r *replay) downgrade(st Step, g *kvlock.Grant) error {
	err := r.commit(st, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		_, err := r.locks.StageDowngrade(s, tx, *g, nil, r.key(first(r.m.Ops[st.Op].Exclusive)))
		return err
	})
	if err != nil {
		return err
	}
	rec, err := r.locks.Record(r.t.Context(), r.owner(st.Op))
	*g = r.locks.GrantOf(rec)
	return err
}

func (r *replay) again(st Step) error {
	return r.commit(st, func(s kvtx.Snapshot, tx *kvtx.Tx) (err error) {
		var rec kvlock.Record
		if st.Kind == Resume {
			rec, err = r.locks.StageResume(s, tx, r.owner(st.Op), kvlock.Running, "test", nil)
		} else {
			rec, err = r.locks.StageRedispatch(s, tx, r.owner(st.Op))
		}
		if err == nil {
			r.dispatch(tx, st.Op, rec.Dispatch)
		}
		return err
	})
}

// look returns the subjects of the walk that have a message: dispatches and wakes.
func (r *replay) look() (subjects []string) {
	info, err := r.store.Stream().Info(r.t.Context(), jetstream.WithSubjectFilter(r.store.DispatchSubject("*", r.name, ">")))
	if err != nil {
		r.fatalf("messages: %v", err)
	}
	return slices.Sorted(maps.Keys(info.State.Subjects))
}

// wakeOf says whether the subject is that of a wake of the key.
func (r *replay) wakeOf(subject string, k int) bool {
	return strings.HasPrefix(subject, r.store.DispatchSubject("wake", r.key(k))+".")
}

// settle removes what was acknowledged in the step.
func (r *replay) settle(st Step, to *State) {
	remove := func(subject string) {
		if err := r.store.Stream().Purge(r.t.Context(), jetstream.WithPurgeSubject(subject)); err != nil {
			r.fatalf("acknowledge %s: %v", subject, err)
		}
	}
	if st.Kind == ServeWake {
		for _, subject := range r.subjects { // as they were before the step
			if r.wakeOf(subject, int(st.Key)) {
				remove(subject)
			}
		}
	}
	for n := uint8(1); n <= 3; n++ {
		if b := bit(n - 1); r.s.Ops[st.Op].Messages&b != 0 && to.Ops[st.Op].Messages&b == 0 {
			remove(r.subject(st.Op, uint64(n)))
		}
	}
}
