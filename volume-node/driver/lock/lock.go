// Package lock keeps calls of drivers apart that must not change a backend at the same moment: three classes of locks behind one
// interface.
//
// # Nouns
//
//   - Locker: takes the locks of one backend, all of one class. Held: a lock that is held.
//   - None: calls run side by side. For backends that need no lock, or have their own.
//   - Node: a file lock for each thing that is written (package nodelock). For backends that one node reaches.
//   - Pool: a file lock for each thing, and then one for the whole pool that all nodes see ([driver.PoolLocks]; [KV] makes one of kvlock).
//     For backends that several nodes reach.
//
// # Invariants
//
//   - A lock of class node or pool has one holder on its node at a time, and stays held until the last process has ended that has its
//     descriptor: a child may outlive the process that took the lock.
//   - The lock of a pool is that of one operation at a time, on all nodes, and of the worker that drives it: who was overtaken gets none.
//   - It is taken last, and nobody who has it waits for another: no deadlock.
//   - Nothing is left behind. The kernel releases a file lock; the lock of a pool stands in the record of its operation, whose next worker
//     has it, and whose end gives it back.
//
// # What it does not do
//
// The lock of a pool keeps operations apart, not the workers of one: that one of them on another node has stopped before the next one
// takes over is what the fencing class of a backend says.
package lock

import (
	"context"
	"errors"
	"time"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/nodelock"
)

// Claim is what somebody who wants a lock shows.
type Claim = nodelock.Claim

// Locker takes the locks of one backend. It is safe for concurrent use.
type Locker interface {
	// Needs is what the calls need that take these locks, for [driver.Info].
	Needs() driver.Lock
	// Acquire takes the lock of the thing called name, and waits for it as long as ctx lasts. Errors: driver.ErrFenced,
	// driver.ErrNoSpace, driver.ErrInvalid, the context's.
	Acquire(ctx context.Context, name string, claim Claim) (Held, error)
	// Sweep removes what is kept of things that are gone and were not used for longer than keep.
	Sweep(ctx context.Context, keep time.Duration, gone func(name string) (bool, error)) error
	// Close gives up the Locker; locks that are held stay held.
	Close() error
}

// Held is a lock that is held.
type Held interface {
	// Overtaken returns driver.ErrFenced if a claim with a higher fence waits: the holder should stop and release. nil proves nothing.
	Overtaken() error
	// Durable waits until the fence is on the disk. Call it before the first effect.
	Durable() error
	// Touch makes the lock look used now, for Sweep.
	Touch() error
	// Release lets the lock go, once no child process has it any more.
	Release() error
}

// None takes no locks.
type None struct{}

var _ Locker = None{}

// Needs is a Locker's.
func (None) Needs() driver.Lock { return driver.Lock{Class: driver.LockNone} }

// Acquire returns at once.
func (None) Acquire(ctx context.Context, _ string, claim Claim) (Held, error) {
	if err := errors.Join(ctx.Err(), driver.CheckToken("operation", claim.Operation)); err != nil {
		return nil, err
	}
	return noLock{}, nil
}

// Sweep has nothing to remove.
func (None) Sweep(context.Context, time.Duration, func(string) (bool, error)) error { return nil }

// Close is a Locker's.
func (None) Close() error { return nil }

type noLock struct{}

func (noLock) Overtaken() error { return nil }
func (noLock) Durable() error   { return nil }
func (noLock) Touch() error     { return nil }
func (noLock) Release() error   { return nil }

// Node takes file locks.
type Node struct{ folder *nodelock.Folder }

var _ Locker = Node{}

// NewNode takes the file locks of a folder, which it closes.
func NewNode(folder *nodelock.Folder) Node { return Node{folder} }

// Needs is a Locker's.
func (Node) Needs() driver.Lock { return driver.Lock{Class: driver.LockNode} }

// Acquire is nodelock's: it ends a holder with a lower fence that does not let go.
func (n Node) Acquire(ctx context.Context, name string, claim Claim) (Held, error) {
	held, err := n.folder.Acquire(ctx, name, claim)
	if err != nil {
		return nil, err // not held: a nil of another type
	}
	return held, nil
}

// Sweep removes lock files.
func (n Node) Sweep(ctx context.Context, keep time.Duration, gone func(name string) (bool, error)) error {
	return n.folder.Sweep(ctx, keep, gone)
}

// Close closes the folder.
func (n Node) Close() error { return n.folder.Close() }

// Pool takes file locks, and then that of a pool.
type Pool struct {
	Node
	name  string
	locks driver.PoolLocks
}

var _ Locker = Pool{}

// NewPool takes the file locks of a folder, which it closes, and the lock of the pool.
func NewPool(folder *nodelock.Folder, name string, locks driver.PoolLocks) Pool {
	return Pool{NewNode(folder), name, locks}
}

// Needs is a Locker's.
func (p Pool) Needs() driver.Lock { return driver.Lock{Class: driver.LockPool, Name: p.name} }

// Acquire takes the lock of the thing, then that of the pool.
func (p Pool) Acquire(ctx context.Context, name string, claim Claim) (Held, error) {
	held, err := p.Node.Acquire(ctx, name, claim)
	if err != nil {
		return nil, err
	}
	give, err := p.locks.Take(ctx, p.name, driver.Call{Operation: claim.Operation, Fence: claim.Fence, Waiting: claim.Waiting})
	if err != nil {
		return nil, errors.Join(err, held.Release())
	}
	return poolLock{held, give}, nil
}

type poolLock struct {
	Held
	give func()
}

// Release gives the pool back first: who waits for the thing may want it.
func (l poolLock) Release() error {
	l.give()
	return l.Held.Release()
}
