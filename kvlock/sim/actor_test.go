package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// actor is a goroutine of a process. What it decides follows from the seed and its name.
type actor struct {
	p     *process
	name  string
	rng   *rand.Rand
	again int // Numbers its tokens.
}

func (p *process) actor(name string) *actor {
	return &actor{p: p, name: name, rng: rand.New(rand.NewPCG(p.w.plan.seed, hashOf(p.label(), name)))}
}

func (a *actor) label() string { return a.p.label() + "/" + a.name }

// turn waits until the world lets the actor go on. It says whether its process still lives.
func (a *actor) turn(what string) bool {
	_, ok := a.offered(what, nil, func() string { return "" })
	return ok
}

// offered is turn, once there is something to take.
func (a *actor) offered(what string, ready func() bool, take func() string) (string, bool) {
	if a.p.dead() {
		return "", false
	}
	got := make(chan string, 1)
	a.p.w.add(&event{
		name: a.label() + " " + what, kind: turn, proc: a.p, ready: ready, gone: a.p.dead,
		happen: func(fate) { got <- take() },
	})
	select {
	case s := <-got:
		return s, !a.p.dead()
	case <-a.p.ctx.Done():
	case <-a.p.w.stop:
	}
	return "", false
}

// call runs a verb with a context that ends after a while, or when the world says so.
func (a *actor) call(verb func(ctx context.Context) error) error {
	limit := []time.Duration{time.Second, 20 * time.Second, 2 * time.Minute}[a.rng.IntN(3)] + 1 // Not at the same moment as a deadline in a record, which is in milliseconds.
	ctx, cancel := context.WithTimeout(context.WithValue(a.p.ctx, whoKey{}, a.name), limit)
	defer cancel()
	w := a.p.w
	w.mu.Lock()
	w.ctxs[a.label()] = cancel
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.ctxs, a.label())
	}()
	return verb(ctx)
}

// until calls a verb until it does not end because of its context; the verb may be repeated. It returns errDead if the process ends.
func (a *actor) until(what string, verb func(ctx context.Context) error) error {
	for a.turn(what) {
		err := a.call(verb)
		switch {
		case a.p.dead():
			return errDead
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kvtx.ErrInDoubt):
			a.p.w.count("verb repeated")
		default:
			return err
		}
	}
	return errDead
}

var errDead = errors.New("the process has ended")

// expect fails the history if an error is none of those that a verb may have in this place, and says whether there was none.
func (a *actor) expect(what string, err error, may ...error) bool {
	if err == nil || a.p.dead() || errors.Is(err, errDead) {
		return err == nil
	}
	if !slices.ContainsFunc(may, func(e error) bool { return errors.Is(err, e) }) {
		a.p.w.fail("%s: %s: %v", a.label(), what, err)
	}
	return false
}

var keys = []string{"a", "b", "c"}

func (a *actor) claims() []kvlock.Claim {
	var claims []kvlock.Claim
	for _, i := range a.rng.Perm(len(keys))[:1+a.rng.IntN(2)] {
		if a.rng.IntN(2) == 0 {
			claims = append(claims, kvlock.Shared(keys[i]))
		} else {
			claims = append(claims, kvlock.Exclusive(keys[i]))
		}
	}
	return claims
}

// client does its operations one after another.
func (a *actor) client() {
	for i := range a.p.ops {
		if !a.turn("begins") {
			return
		}
		owner := fmt.Sprintf("%s-%s-%d", a.p.label(), a.name, i)
		switch a.rng.IntN(7) {
		case 0:
			a.try(owner + "d")
		case 1, 2:
			a.wait(owner + "d")
		case 3:
			a.submit(owner + "q")
		case 4, 5:
			a.queue(owner + "q")
		case 6:
			a.increment()
		}
	}
	if !a.p.dead() {
		a.p.done()
	}
}

// owns notes that an operation is the process's own: nobody is told of it.
func (a *actor) owns(owner string) {
	t := a.p.w.truth
	t.mu.Lock()
	defer t.mu.Unlock()
	t.direct[owner] = a.p
}

// try claims keys, or is refused.
func (a *actor) try(owner string) {
	a.owns(owner)
	claims := a.claims()
	var g kvlock.Grant
	err := a.until("tries", func(ctx context.Context) (err error) {
		g, err = a.p.locks.TryAcquire(ctx, owner, nil, claims...)
		return err
	})
	if a.expect("TryAcquire", err, kvlock.ErrConflict, kvlock.ErrExists) {
		a.hold(g)
	} else if errors.Is(err, kvlock.ErrConflict) {
		a.p.w.count("refused")
		a.gone(owner, "TryAcquire was refused")
	}
}

// wait claims keys and waits for them.
func (a *actor) wait(owner string) {
	a.owns(owner)
	claims := a.claims()
	var wait kvlock.Wait
	if a.rng.IntN(3) == 0 {
		wait.Deadline = time.Now().Add([]time.Duration{50 * time.Millisecond, 5 * time.Second, time.Hour}[a.rng.IntN(3)])
	}
	var g kvlock.Grant
	err := a.call(func(ctx context.Context) (err error) {
		g, err = a.p.locks.Acquire(ctx, owner, nil, wait, claims...)
		return err
	})
	switch {
	case a.p.dead():
	case err == nil:
		a.hold(g)
	case strings.Contains(err.Error(), "may still wait or hold"):
		a.p.w.count("wait given up in doubt")
		a.recover(owner, claims)
	case a.expect("Acquire", err, context.Canceled, context.DeadlineExceeded, kvlock.ErrDeadline, kvlock.ErrVoid, kvlock.ErrExists):
	case errors.Is(err, kvlock.ErrExists): // it was broken
	default:
		a.p.w.count("wait given up")
		a.gone(owner, fmt.Sprintf("Acquire ended: %v", err))
	}
}

// recover ends an operation whose caller does not know what became of it.
func (a *actor) recover(owner string, claims []kvlock.Claim) {
	var g kvlock.Grant
	err := a.until("recovers", func(ctx context.Context) (err error) {
		g, err = a.p.locks.Acquire(ctx, owner, nil, kvlock.Wait{}, claims...)
		if err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "may still wait or hold") {
			return context.Canceled
		}
		return err
	})
	if a.expect("Acquire again", err, kvlock.ErrExists, kvlock.ErrVoid, kvlock.ErrDeadline) {
		a.hold(g)
	}
}

// overtaken holds that a grant that was refused is not the one of its operation.
func (a *actor) overtaken(g kvlock.Grant, why error) {
	if a.p.dead() || errors.Is(why, errDead) {
		return
	}
	if rec, ok := a.p.w.truth.record(g.Owner()); ok && rec.Live() && rec.Phase != kvlock.Void && rec.Epoch == g.Epoch() {
		a.p.w.fail("%s: %s is %s in epoch %d, and its grant was refused: %v", a.label(), g.Owner(), rec.Phase, rec.Epoch, why)
	}
}

// gone holds that nothing is left of an operation.
func (a *actor) gone(owner, why string) {
	if rec, ok := a.p.w.truth.record(owner); ok && rec.Live() && rec.Phase != kvlock.Void {
		a.p.w.fail("%s: %s, and %s is %s", a.label(), why, owner, rec.Phase)
	}
}

// hold works with what is held, and gives it back.
func (a *actor) hold(g kvlock.Grant) {
	g, ok := a.work(g)
	if !ok {
		return
	}
	err := a.until("releases", func(ctx context.Context) error { return a.p.locks.Release(ctx, g) })
	if a.expect("Release", err, kvlock.ErrAdopted) {
		a.gone(g.Owner(), "it was released")
		a.p.w.count("held and released")
	} else {
		a.overtaken(g, err)
	}
}

// work uses what is held, saves, makes readers of writers, and takes named locks. It says whether the grant is still good.
func (a *actor) work(g kvlock.Grant) (kvlock.Grant, bool) {
	for range a.rng.IntN(3) {
		if !a.turn("works") {
			return g, false
		}
		for _, c := range g.Claims() {
			if !isNamed(c.Key) && !a.p.w.truth.use(g, c) {
				return g, false
			}
		}
		if (a.rng.IntN(2) == 0 || hasNamed(g.Claims())) && !a.takeNamed(g) {
			return g, false
		}
		var err error
		next := g
		switch i := slices.IndexFunc(g.Claims(), func(c kvlock.Claim) bool { return c.Mode == kvlock.ModeExclusive && !isNamed(c.Key) }); {
		case i >= 0 && a.rng.IntN(3) == 0:
			err = a.until("downgrades", func(ctx context.Context) (err error) {
				next, err = a.p.locks.Downgrade(ctx, g, g.Claims()[i].Key)
				return err
			})
			if err == nil {
				a.p.w.count("downgraded")
			}
		case a.rng.IntN(2) == 0:
			payload := fmt.Append(nil, "save ", a.rng.Uint32())
			err = a.until("saves", func(ctx context.Context) (err error) {
				next, err = a.p.locks.Save(ctx, g, kvlock.Running, payload)
				return err
			})
		}
		if !a.expect("save", err, kvlock.ErrAdopted, kvlock.ErrNotFound) {
			a.overtaken(g, err)
			return g, false
		}
		g = next
	}
	return g, true
}

// submit makes an operation that holds its claims and is dispatched, or nothing at all.
func (a *actor) submit(owner string) {
	claims, err := kvlock.Normalize(a.claims())
	if err != nil {
		a.p.w.fail("%v", err)
		return
	}
	locks, store := a.p.locks, a.p.store
	err = a.until("submits", func(ctx context.Context) error {
		_, err := store.Update(ctx, locks.Keys(owner, claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			if _, err := locks.StageAcquire(s, tx, owner, nil, claims...); err != nil {
				return err
			}
			tx.Publish(store.DispatchSubject("req", owner, "1"), nil, nil)
			return nil
		})
		return err
	})
	if a.expect("submit", err, kvlock.ErrConflict, kvlock.ErrExists) {
		a.p.w.count("submitted")
	}
}

// queue makes an operation that waits if it must, and is dispatched when it is granted. Some give it up again.
func (a *actor) queue(owner string) {
	claims := a.claims()
	wait := kvlock.Wait{Dispatch: "req." + owner}
	if a.rng.IntN(3) == 0 {
		wait.Deadline = time.Now().Add([]time.Duration{time.Second, 20 * time.Second}[a.rng.IntN(2)])
	}
	err := a.until("queues", func(ctx context.Context) error {
		_, err := a.p.locks.Queue(ctx, owner, nil, wait, claims...)
		return err
	})
	if !a.expect("Queue", err, kvlock.ErrExists, kvlock.ErrDeadline) && !errors.Is(err, kvlock.ErrExists) {
		return
	}
	if _, ok := a.p.w.truth.record(owner); !ok {
		a.p.w.fail("%s: %s was queued and is not there", a.label(), owner)
	}
	a.p.w.count("queued")
	if a.rng.IntN(4) > 0 {
		return
	}
	err = a.until("leaves", func(ctx context.Context) error {
		_, err := a.p.locks.Leave(ctx, owner, "the user has changed his mind")
		return err
	})
	a.expect("Leave", err, kvlock.ErrEnded, kvlock.ErrInvalid, kvlock.ErrVoid, kvlock.ErrNotFound)
}

// increment counts, in a commit that shares a record with others, or with a fixed value on what it reads.
func (a *actor) increment() {
	key := "count." + keys[a.rng.IntN(2)]
	add := func(e kvtx.Entry) []byte { return append(slices.Clone(e.Value), 'x') }
	fixed, both := a.rng.IntN(2) == 0, a.rng.IntN(2) == 0
	t := a.p.w.truth
	tell := func(m map[string]int, n int) {
		t.mu.Lock()
		defer t.mu.Unlock()
		m[key] += n
	}
	tell(t.uncertain, 1)
	err := a.call(func(ctx context.Context) error {
		stage := func(e kvtx.Entry, tx *kvtx.Tx) {
			tx.Put(key, add(e), e.Revision)
			if both {
				tx.Publish(a.p.store.DispatchSubject("note", a.p.label(), a.name), nil, nil)
			}
		}
		if !fixed {
			_, err := a.p.store.Update(ctx, []string{key}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
				e, err := s.Get(key)
				if err != nil {
					return err
				}
				stage(e, tx)
				return nil
			})
			return err
		}
		e, err := a.p.store.Get(ctx, key)
		if err != nil {
			return err
		}
		var tx kvtx.Tx
		stage(e, &tx)
		_, err = a.p.store.Commit(ctx, &tx)
		return err
	})
	switch {
	case a.p.dead():
		return
	case err == nil:
		tell(t.acked, 1)
		a.p.w.count("counted")
		return
	case !errors.Is(err, kvtx.ErrInDoubt):
		a.expect("count", err, context.Canceled, context.DeadlineExceeded, kvtx.ErrConflict)
		tell(t.uncertain, -1)
	}
}
