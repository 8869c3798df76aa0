package linearizability

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/internal/history"
)

// workloads are all of them. plainReads: what a plain read says counts.
func workloads(plainReads bool) []*load {
	return []*load{mutex(), memorySet(), storeSet(), handOver(), readersAndWriters(), registers(plainReads)}
}

// mutex is a lock that clients try to take, some of whose holders are taken over from.
func mutex() *load {
	l := &load{name: "mutex", clients: 4, rec: history.NewRecorder(), model: history.Locks}
	l.act = func(c *client) {
		owner, claims := c.id(), []kvlock.Claim{kvlock.Exclusive("mutex")}
		if g, ok := c.try(owner, claims); ok {
			c.pause(5 * time.Millisecond)
			c.giveBack(c.perhapsTakenOver(g))
		}
	}
	return l
}

// memorySet is a set in memory that each client reads, and writes a moment later: only the lock keeps that apart.
func memorySet() *load {
	l := &load{name: "memory-set", clients: 3, rec: history.NewRecorder(), model: history.Sets}
	var mu sync.Mutex // for the race detector: it is not held from the read to the write
	var set []string
	l.act = func(c *client) {
		owner := c.id()
		g, err := c.p.locks.Acquire(c.ctx, owner, nil, kvlock.Wait{}, kvlock.Exclusive("memory-set"))
		if err != nil {
			c.fail("Acquire(%s): %v", owner, err)
			return
		}
		call := c.rec.Begin()
		defer call.End()
		mu.Lock()
		seen := set
		mu.Unlock()
		call.Saw("set", history.Set{Saw: seen})
		c.pause(5 * time.Millisecond)
		add := c.rec.Begin()
		mu.Lock()
		set = append(slices.Clip(seen), owner)
		mu.Unlock()
		add.Saw("set", history.Set{Add: owner})
		add.End()
		c.release(g)
	}
	return l
}

// handOver is operations that wait in line for one key or two, in the order in which they came, and of which some give up.
func handOver() *load {
	l := &load{name: "hand-over", clients: 5, rec: history.NewRecorder(), model: history.Locks}
	var mu sync.Mutex
	var turns []history.Turn
	l.act = func(c *client) {
		owner := c.id()
		claims := [][]kvlock.Claim{
			{kvlock.Exclusive("line.a")}, {kvlock.Exclusive("line.b")}, {kvlock.Exclusive("line.a"), kvlock.Exclusive("line.b")},
			{kvlock.Shared("line.a"), kvlock.Exclusive("line.b")},
		}[c.rng.IntN(4)]
		g, asked, ok := c.wait(owner, claims)
		if !ok {
			return
		}
		if asked != 0 {
			mu.Lock()
			turns = append(turns, history.Turn{Owner: owner, Claims: claims, Asked: asked, Granted: g.Revision()})
			mu.Unlock()
		}
		c.pause(5 * time.Millisecond)
		c.giveBack(g)
	}
	l.check = func(t *testing.T) {
		if err := history.FairOrder(turns); err != nil {
			t.Errorf("%s: %v", l.name, err)
		}
		waited := 0
		for _, turn := range turns {
			if turn.Granted > turn.Asked {
				waited++
			}
		}
		if t.Logf("%s: %d turns, %d of them had to wait", l.name, len(turns), waited); waited == 0 {
			t.Errorf("%s: nobody had to wait: the test is blind", l.name)
		}
	}
	return l
}

// readersAndWriters is operations that claim several keys, try or wait, and become readers of what they wrote.
func readersAndWriters() *load {
	l := &load{name: "readers-writers", clients: 5, rec: history.NewRecorder(), model: history.Locks}
	l.act = func(c *client) {
		owner, claims := c.id(), c.claims("rw.a", "rw.b", "rw.c")
		var g kvlock.Grant
		var ok bool
		if c.rng.IntN(2) == 0 {
			g, ok = c.try(owner, claims)
		} else {
			g, _, ok = c.wait(owner, claims)
		}
		if !ok {
			return
		}
		c.pause(5 * time.Millisecond)
		if g = c.perhapsTakenOver(g); c.rng.IntN(3) == 0 {
			g = c.downgrade(g)
			c.pause(5 * time.Millisecond)
		}
		c.giveBack(g)
	}
	l.check = func(t *testing.T) {
		for _, verb := range []history.Verb{history.Refuse, history.Downgrade} {
			if l.rec.Count(func(e any, _ bool) bool { return e.(history.Lock).Verb == verb }) == 0 {
				t.Errorf("%s: never %s: the test is blind", l.name, verb)
			}
		}
	}
	return l
}

// claims are some of the keys, most of them shared.
func (c *client) claims(keys ...string) (claims []kvlock.Claim) {
	c.rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, k := range keys[:1+c.rng.IntN(len(keys))] {
		if c.rng.IntN(3) == 0 {
			claims = append(claims, kvlock.Exclusive(k))
		} else {
			claims = append(claims, kvlock.Shared(k))
		}
	}
	return claims
}

// saw records that the operation did something with its keys.
func saw(call history.Call, verb history.Verb, owner string, claims []kvlock.Claim) {
	for _, claim := range claims {
		call.Saw(claim.Key, history.Lock{Verb: verb, Owner: owner, Mode: claim.Mode})
	}
}

// try claims without waiting. An answer that was in doubt is asked for again: the owner is the same. One that merely ran out of time was not given.
func (c *client) try(owner string, claims []kvlock.Claim) (kvlock.Grant, bool) {
	call := c.rec.Begin()
	defer call.End()
	ctx, cancel := c.moment()
	g, err := c.p.locks.TryAcquire(ctx, owner, nil, claims...)
	cancel()
	if unknown(err) {
		err = c.settled(func(ctx context.Context) (err error) {
			g, err = c.p.locks.TryAcquire(ctx, owner, nil, claims...)
			return err
		})
	}
	var conflict *kvlock.ConflictError
	switch {
	case errors.As(err, &conflict):
		for _, e := range conflict.Conflicts {
			var holders []string
			for _, h := range e.Holders {
				holders = append(holders, h.Owner)
			}
			if len(holders) > 0 { // who waits is not in the model
				call.Saw(e.Claim.Key, history.Lock{Verb: history.Refuse, Owner: owner, Mode: e.Claim.Mode, Holders: history.Holders(holders)})
			}
		}
		return g, false
	case ended(err) && c.ctx.Err() == nil:
		return g, false
	case err != nil:
		c.t.Errorf("TryAcquire(%s): %v", owner, err)
		return g, false
	}
	saw(call, history.Take, owner, claims)
	return g, true
}

// perhapsTakenOver lets another process take the operation over sometimes, and proves that the grant is stale then.
func (c *client) perhapsTakenOver(g kvlock.Grant) kvlock.Grant {
	if c.rng.IntN(4) > 0 {
		return g
	}
	next := c.takeOver(c.heir, g)
	if err := c.settled(func(ctx context.Context) error { return c.p.locks.Release(ctx, g) }); !errors.Is(err, kvlock.ErrAdopted) {
		c.t.Errorf("Release(%s) with a stale grant = %v, want ErrAdopted", g.Owner(), err)
	}
	return next
}

// takeOver takes the operation over for a process.
func (c *client) takeOver(p *process, g kvlock.Grant) (next kvlock.Grant) {
	token := c.id()
	err := c.settled(func(ctx context.Context) (err error) {
		next, _, err = p.locks.Adopt(ctx, g.Owner(), "worker", token)
		return err
	})
	if err != nil {
		c.t.Errorf("Adopt(%s): %v", g.Owner(), err)
	} else if !g.Fence().Less(next.Fence()) {
		c.t.Errorf("Adopt(%s): fence %v after %v", g.Owner(), next.Fence(), g.Fence())
	}
	return next
}

// downgrade makes a key that is held exclusively a shared one, if there is one.
func (c *client) downgrade(g kvlock.Grant) kvlock.Grant {
	claims := g.Claims()
	i := slices.IndexFunc(claims, func(claim kvlock.Claim) bool { return claim.Mode == kvlock.ModeExclusive })
	if i < 0 {
		return g
	}
	call := c.rec.Begin()
	defer call.End()
	next := g
	err := c.settled(func(ctx context.Context) (err error) {
		next, err = c.p.locks.Downgrade(ctx, g, claims[i].Key)
		return err
	})
	if err != nil {
		c.t.Errorf("Downgrade(%s, %s): %v", g.Owner(), claims[i].Key, err)
		return g
	}
	saw(call, history.Downgrade, g.Owner(), claims[i:i+1])
	return next
}

// giveBack ends the operation.
func (c *client) giveBack(g kvlock.Grant) {
	call := c.rec.Begin()
	defer call.End()
	if c.release(g) {
		saw(call, history.Give, g.Owner(), g.Claims())
	}
}

func (c *client) release(g kvlock.Grant) bool {
	err := c.settled(func(ctx context.Context) error { return c.p.locks.Release(ctx, g) })
	if err != nil {
		c.t.Errorf("Release(%s): %v", g.Owner(), err)
	}
	return err == nil
}
