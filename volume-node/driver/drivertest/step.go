package drivertest

import (
	"context"
	"fmt"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// Step is one call of a driver.
type Step struct {
	Method    driver.Method
	Operation string
	Fence     driver.Fence
	Volume    driver.Volume   // what is made or changed; also of RaiseFence
	Source    driver.Volume   // of CloneVolume
	To        int64           // of ExtendVolume
	Snapshot  driver.Snapshot // source, or what is made or deleted
}

func (s Step) call() driver.Call { return driver.Call{Operation: s.Operation, Fence: s.Fence} }

// with returns the step as the worker with that fence makes it.
func (s Step) with(fence driver.Fence) Step {
	s.Fence = fence
	return s
}

// target is the thing that the step writes.
func (s Step) target() driver.Ref {
	if s.Method == driver.MethodCreateSnapshot || s.Method == driver.MethodDeleteSnapshot {
		return s.Snapshot.ID.Ref()
	}
	return s.Volume.ID.Ref()
}

// do makes the call.
func (s Step) do(ctx context.Context, d driver.Driver, call driver.Call) error {
	switch s.Method {
	case driver.MethodCreateVolume:
		return d.CreateVolume(ctx, call, s.Volume)
	case driver.MethodCloneVolume:
		return d.CloneVolume(ctx, call, s.Volume, s.Source)
	case driver.MethodCreateFromSnapshot:
		return d.CreateFromSnapshot(ctx, call, s.Volume, s.Snapshot)
	case driver.MethodExtendVolume:
		return d.ExtendVolume(ctx, call, s.Volume, s.To)
	case driver.MethodDeleteVolume:
		return d.DeleteVolume(ctx, call, s.Volume.ID)
	case driver.MethodCreateSnapshot:
		return d.CreateSnapshot(ctx, call, s.Snapshot)
	case driver.MethodDeleteSnapshot:
		return d.DeleteSnapshot(ctx, call, s.Snapshot)
	case driver.MethodRevertVolume:
		return d.RevertVolume(ctx, call, s.Volume, s.Snapshot)
	case driver.MethodRaiseFence:
		return d.RaiseFence(ctx, call, s.target())
	case driver.MethodCapacity, driver.MethodList, driver.MethodLook, driver.MethodSource, driver.MethodCleanup:
	}
	return fmt.Errorf("step %s changes nothing", s.Method)
}
