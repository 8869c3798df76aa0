// Package null is a backend that keeps nothing: it is for measuring everything above a backend.
//
// Invariants: every call that would change something succeeds at once if its arguments are valid, and leaves no trace,
// in memory or elsewhere: a null backend is the same before and after a restart, on every node. What asks for something
// that was kept (List, Look, Source) answers driver.ErrUnsupported, never made-up facts. So no thing ever has a wrong size, either.
//
// It does not keep fences either. A late call has no effect that could do harm, so its fencing class is store: nobody
// needs to be declared dead before another worker goes on.
package null

import (
	"context"
	"fmt"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/lock"
)

// Kind is the name of this kind of backend.
const Kind = "null"

// capacityBytes is what a null backend says it has: 1 EiB, more than any test asks for.
const capacityBytes = 1 << 60

// Factory makes null drivers.
func Factory() driver.Factory {
	return driver.Factory{
		Open: func(context.Context, driver.Spec, driver.Env) (driver.Driver, error) { return New(), nil },
	}
}

// Driver keeps nothing.
type Driver struct{}

// locks are those of its calls: there is nothing to keep apart.
var locks lock.None

// New returns a driver that keeps nothing.
func New() *Driver { return &Driver{} }

var _ driver.Driver = (*Driver)(nil)

// Info says that nothing is kept.
func (*Driver) Info() driver.Info {
	needs := map[driver.Method]driver.Lock{}
	for _, m := range driver.Writing() {
		needs[m] = locks.Needs()
	}
	return driver.Info{
		Kind:    Kind,
		Locks:   needs,
		Fencing: driver.FencingStore,
		Capabilities: driver.Capabilities{
			CloneWhileOpen: true, Revert: true, Thin: true, OnlineExtend: true,
		},
		Notes: []string{"keeps no data: every call succeeds and nothing can be read back; for measuring only"},
	}
}

// Capacity returns 1 EiB, all of it free.
func (*Driver) Capacity(ctx context.Context) (driver.Capacity, error) {
	return driver.Capacity{TotalBytes: capacityBytes, FreeBytes: capacityBytes, Oversubscription: 1}, ctx.Err()
}

// CreateVolume checks its arguments.
func (*Driver) CreateVolume(ctx context.Context, call driver.Call, dst driver.Volume) error {
	return check(ctx, call, dst)
}

// CloneVolume checks its arguments.
func (*Driver) CloneVolume(ctx context.Context, call driver.Call, dst, src driver.Volume) error {
	return checkSource(ctx, call, dst, src, src.ID.Ref(), src.Bytes)
}

// CreateFromSnapshot checks its arguments.
func (*Driver) CreateFromSnapshot(ctx context.Context, call driver.Call, dst driver.Volume, src driver.Snapshot) error {
	return checkSource(ctx, call, dst, src, src.ID.Ref(), src.Bytes)
}

// ExtendVolume checks its arguments.
func (*Driver) ExtendVolume(ctx context.Context, call driver.Call, v driver.Volume, to int64) error {
	if err := check(ctx, call, v, driver.Volume{ID: v.ID, Bytes: to}); err != nil || to >= v.Bytes {
		return err
	}
	return fmt.Errorf("%s of %d bytes, extend to %d: %w", v.ID.Ref(), v.Bytes, to, driver.ErrShrink)
}

// DeleteVolume checks its arguments.
func (*Driver) DeleteVolume(ctx context.Context, call driver.Call, id driver.VolumeID) error {
	return check(ctx, call, id.Ref())
}

// CreateSnapshot checks its arguments, and holds the source's writes for a moment if it is open.
func (*Driver) CreateSnapshot(ctx context.Context, call driver.Call, dst driver.Snapshot) error {
	if err := check(ctx, call, dst); err != nil {
		return err
	}
	return hold(ctx, call)
}

// DeleteSnapshot checks its arguments.
func (*Driver) DeleteSnapshot(ctx context.Context, call driver.Call, snap driver.Snapshot) error {
	return check(ctx, call, snap)
}

// RevertVolume checks its arguments.
func (*Driver) RevertVolume(ctx context.Context, call driver.Call, dst driver.Volume, src driver.Snapshot) error {
	return checkSource(ctx, call, dst, src, src.ID.Ref(), src.Bytes)
}

// RaiseFence checks its arguments: there is no write that could be late.
func (*Driver) RaiseFence(ctx context.Context, call driver.Call, ref driver.Ref) error {
	return check(ctx, call, ref)
}

// List answers driver.ErrUnsupported.
func (*Driver) List(context.Context, func(driver.Object) error) error {
	return fmt.Errorf("list: the null backend keeps nothing: %w", driver.ErrUnsupported)
}

// Look answers driver.ErrUnsupported.
func (*Driver) Look(_ context.Context, ref driver.Ref) (driver.Object, error) {
	return driver.Object{}, fmt.Errorf("%s: the null backend keeps nothing: %w", ref, driver.ErrUnsupported)
}

// Source answers driver.ErrUnsupported.
func (*Driver) Source(_ context.Context, v driver.Volume) (driver.Source, error) {
	return driver.Source{}, fmt.Errorf("%s: the null backend keeps no data that a host could use: %w", v.ID.Ref(), driver.ErrUnsupported)
}

// Cleanup finds nothing to remove.
func (*Driver) Cleanup(ctx context.Context, _ func(operation string) bool) error { return ctx.Err() }

// Close does nothing.
func (*Driver) Close() error { return nil }

type checker interface{ Check() error }

// check is what every call begins with: its arguments are looked at, and its lock is taken, which keeps nobody out.
func check(ctx context.Context, call driver.Call, args ...checker) error {
	for _, arg := range args {
		if err := arg.Check(); err != nil {
			return err
		}
	}
	held, err := locks.Acquire(ctx, "", lock.Claim{Operation: call.Operation, Fence: call.Fence})
	if err != nil {
		return err
	}
	return held.Release()
}

// checkSource checks the arguments of a call that fills dst from src.
func checkSource(ctx context.Context, call driver.Call, dst driver.Volume, src checker, ref driver.Ref, bytes int64) error {
	if err := check(ctx, call, dst, src); err != nil {
		return err
	}
	if dst.Bytes < bytes {
		return fmt.Errorf("%s of %d bytes from %s of %d bytes: %w", dst.ID.Ref(), dst.Bytes, ref, bytes, driver.ErrShrink)
	}
	return hold(ctx, call)
}

// hold does with an open source what a real backend does, so that it is measured, too.
func hold(ctx context.Context, call driver.Call) error {
	if call.Hold == nil {
		return nil
	}
	release, err := call.Hold(ctx)
	if err != nil {
		return err
	}
	return release()
}
