package lock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// KV takes the locks of pools as named locks of kvlock. The operation of a call is an owner there, and the fence that of its worker.
type KV struct {
	locks *kvlock.Locker
	log   *slog.Logger
}

var _ driver.PoolLocks = KV{}

// NewKV makes locks of pools of kvlock's.
func NewKV(locks *kvlock.Locker, log *slog.Logger) KV { return KV{locks, log} }

const (
	firstPause = 10 * time.Millisecond
	longPause  = 500 * time.Millisecond
	tellEvery  = 5 * time.Second
	giveLimit  = 10 * time.Second
)

// Take is a driver.PoolLocks'. A lock that is held is tried again, in jittered pauses: it has no line.
func (k KV) Take(ctx context.Context, pool string, call driver.Call) (give func(), err error) {
	name, fence := "pool."+pool, kvlock.Fence{Era: call.Fence.Era, Rev: call.Fence.Rev}
	give = func() { k.give(ctx, name, call.Operation, fence) }
	begin, told := time.Now(), time.Time{}
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		err := k.locks.LockNamed(ctx, call.Operation, fence, name)
		switch {
		case err == nil:
			return give, nil
		case gone(err):
			return nil, fmt.Errorf("pool %s: %w: %w", pool, driver.ErrFenced, err)
		case ctx.Err() != nil:
			give() // the answer may have been lost
			return nil, fmt.Errorf("pool %s: waited since %s for its lock: %w", pool, time.Since(begin).Round(time.Millisecond), context.Cause(ctx))
		case !errors.Is(err, kvlock.ErrConflict):
			return nil, fmt.Errorf("pool %s: %w", pool, err)
		}
		if call.Waiting != nil && time.Since(told) > tellEvery {
			told = time.Now()
			call.Waiting(fmt.Sprintf("waits since %s for the lock of pool %s: %v", time.Since(begin).Round(time.Millisecond), pool, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// gone says whether the operation is no longer the caller's to drive.
func gone(err error) bool {
	for _, why := range []error{kvlock.ErrAdopted, kvlock.ErrEnded, kvlock.ErrNotFound, kvlock.ErrQueued, kvlock.ErrStuck, kvlock.ErrEra} {
		if errors.Is(err, why) {
			return true
		}
	}
	return false
}

// give gives the lock back. What fails is no error of the call: the next call of the operation has the lock, and its end gives it back.
func (k KV) give(ctx context.Context, name, operation string, fence kvlock.Fence) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveLimit)
	defer cancel()
	if err := k.locks.UnlockNamed(ctx, operation, fence, name); err != nil && !gone(err) {
		k.log.WarnContext(ctx, "lock of a pool not given back, the operation's end gives it back", "operation", operation, "lock", name, "error", err)
	}
}
