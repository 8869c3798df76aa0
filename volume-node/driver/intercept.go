package driver

import (
	"context"
	"time"
)

// Interceptor stands round every call of a driver that reaches the backend. It calls next once, more often, or never,
// and returns the call's error. ref is what the call is about; its zero value for calls about no single thing.
type Interceptor func(ctx context.Context, method Method, ref Ref, next func(context.Context) error) error

// Intercept returns d with the interceptor round its calls. Info and Close pass through. To change one method only,
// embed the Driver in a struct of your own.
func Intercept(d Driver, around Interceptor) Driver { return &intercepted{Driver: d, around: around} }

// Delay returns d with every call that reaches the backend taking delay longer. A call whose context ends while it
// is delayed does not reach the backend.
func Delay(d Driver, delay time.Duration) Driver {
	if delay <= 0 {
		return d
	}
	return Intercept(d, func(ctx context.Context, _ Method, _ Ref, next func(context.Context) error) error {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return next(ctx)
		}
	})
}

type intercepted struct {
	Driver
	around Interceptor
}

func (d *intercepted) Capacity(ctx context.Context) (c Capacity, err error) {
	err = d.around(ctx, MethodCapacity, Ref{}, func(ctx context.Context) error {
		c, err = d.Driver.Capacity(ctx)
		return err
	})
	return c, err
}

func (d *intercepted) CreateVolume(ctx context.Context, call Call, dst Volume) error {
	return d.around(ctx, MethodCreateVolume, dst.ID.Ref(), func(ctx context.Context) error {
		return d.Driver.CreateVolume(ctx, call, dst)
	})
}

func (d *intercepted) CloneVolume(ctx context.Context, call Call, dst, src Volume) error {
	return d.around(ctx, MethodCloneVolume, dst.ID.Ref(), func(ctx context.Context) error {
		return d.Driver.CloneVolume(ctx, call, dst, src)
	})
}

func (d *intercepted) CreateFromSnapshot(ctx context.Context, call Call, dst Volume, src Snapshot) error {
	return d.around(ctx, MethodCreateFromSnapshot, dst.ID.Ref(), func(ctx context.Context) error {
		return d.Driver.CreateFromSnapshot(ctx, call, dst, src)
	})
}

func (d *intercepted) ExtendVolume(ctx context.Context, call Call, v Volume, to int64) error {
	return d.around(ctx, MethodExtendVolume, v.ID.Ref(), func(ctx context.Context) error {
		return d.Driver.ExtendVolume(ctx, call, v, to)
	})
}

func (d *intercepted) DeleteVolume(ctx context.Context, call Call, id VolumeID) error {
	return d.around(ctx, MethodDeleteVolume, id.Ref(), func(ctx context.Context) error {
		return d.Driver.DeleteVolume(ctx, call, id)
	})
}

func (d *intercepted) CreateSnapshot(ctx context.Context, call Call, dst Snapshot) error {
	return d.around(ctx, MethodCreateSnapshot, dst.ID.Ref(), func(ctx context.Context) error {
		return d.Driver.CreateSnapshot(ctx, call, dst)
	})
}

func (d *intercepted) DeleteSnapshot(ctx context.Context, call Call, snap Snapshot) error {
	return d.around(ctx, MethodDeleteSnapshot, snap.ID.Ref(), func(ctx context.Context) error {
		return d.Driver.DeleteSnapshot(ctx, call, snap)
	})
}

func (d *intercepted) RevertVolume(ctx context.Context, call Call, dst Volume, src Snapshot) error {
	return d.around(ctx, MethodRevertVolume, dst.ID.Ref(), func(ctx context.Context) error {
		return d.Driver.RevertVolume(ctx, call, dst, src)
	})
}

func (d *intercepted) RaiseFence(ctx context.Context, call Call, ref Ref) error {
	return d.around(ctx, MethodRaiseFence, ref, func(ctx context.Context) error {
		return d.Driver.RaiseFence(ctx, call, ref)
	})
}

func (d *intercepted) List(ctx context.Context, fn func(Object) error) error {
	return d.around(ctx, MethodList, Ref{}, func(ctx context.Context) error { return d.Driver.List(ctx, fn) })
}

func (d *intercepted) Look(ctx context.Context, ref Ref) (o Object, err error) {
	err = d.around(ctx, MethodLook, ref, func(ctx context.Context) error {
		o, err = d.Driver.Look(ctx, ref)
		return err
	})
	return o, err
}

func (d *intercepted) Source(ctx context.Context, v Volume) (s Source, err error) {
	err = d.around(ctx, MethodSource, v.ID.Ref(), func(ctx context.Context) error {
		s, err = d.Driver.Source(ctx, v)
		return err
	})
	return s, err
}

func (d *intercepted) Cleanup(ctx context.Context, ended func(operation string) bool) error {
	return d.around(ctx, MethodCleanup, Ref{}, func(ctx context.Context) error { return d.Driver.Cleanup(ctx, ended) })
}
