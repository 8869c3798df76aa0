package drivertest

import (
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// scenario is one step in a world that is prepared for it, and what it makes of that world.
type scenario struct {
	name  string
	step  Step
	apply func(model)
}

// The world of the scenarios: a volume src; snap, taken before src was written once more; old, made from snap and
// written on its own.
const (
	srcID  = driver.VolumeID("src")
	oldID  = driver.VolumeID("old")
	newID  = driver.VolumeID("new")
	snapID = driver.SnapshotID("snap")
	newSn  = driver.SnapshotID("new") // the same name as the volume: kinds have names of their own
)

func (b *bench) buildWorld() {
	b.t.Helper()
	b.createVolume(srcID, worldBytes)
	b.scatter(srcID, 1)
	snap := b.createSnapshot(snapID, srcID)
	b.scatter(srcID, 2)
	b.restore(oldID, snap)
	b.scatter(oldID, 3)
}

// scenarios returns every writing call, with an effect that can be seen.
func scenarios() []scenario {
	const more = worldBytes + 123_457
	snap := driver.Snapshot{ID: snapID, Volume: srcID, Bytes: worldBytes}
	step := func(m driver.Method, s Step) Step {
		s.Method, s.Operation = m, "op-step"
		return s
	}
	return []scenario{
		{
			name:  "create",
			step:  step(driver.MethodCreateVolume, Step{Volume: driver.Volume{ID: newID, Bytes: worldBytes}}),
			apply: func(m model) { m[newID.Ref()] = make([]byte, worldBytes) },
		}, {
			name:  "clone",
			step:  step(driver.MethodCloneVolume, Step{Volume: driver.Volume{ID: newID, Bytes: more}, Source: driver.Volume{ID: srcID, Bytes: worldBytes}}),
			apply: func(m model) { m[newID.Ref()] = grown(m[srcID.Ref()], more) },
		}, {
			name:  "create from snapshot",
			step:  step(driver.MethodCreateFromSnapshot, Step{Volume: driver.Volume{ID: newID, Bytes: more}, Snapshot: snap}),
			apply: func(m model) { m[newID.Ref()] = grown(m[snapID.Ref()], more) },
		}, {
			name:  "extend",
			step:  step(driver.MethodExtendVolume, Step{Volume: driver.Volume{ID: oldID, Bytes: worldBytes}, To: more}),
			apply: func(m model) { m[oldID.Ref()] = grown(m[oldID.Ref()], more) },
		}, {
			name:  "delete volume",
			step:  step(driver.MethodDeleteVolume, Step{Volume: driver.Volume{ID: oldID}}),
			apply: func(m model) { delete(m, oldID.Ref()) },
		}, {
			name:  "create snapshot",
			step:  step(driver.MethodCreateSnapshot, Step{Snapshot: driver.Snapshot{ID: newSn, Volume: srcID, Bytes: worldBytes}}),
			apply: func(m model) { m[newSn.Ref()] = m[srcID.Ref()] },
		}, {
			name:  "delete snapshot",
			step:  step(driver.MethodDeleteSnapshot, Step{Snapshot: snap}),
			apply: func(m model) { delete(m, snapID.Ref()) },
		}, {
			name:  "revert",
			step:  step(driver.MethodRevertVolume, Step{Volume: driver.Volume{ID: oldID, Bytes: worldBytes}, Snapshot: snap}),
			apply: func(m model) { m[oldID.Ref()] = m[snapID.Ref()] },
		},
	}
}
