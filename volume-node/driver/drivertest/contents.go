package drivertest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

func testVolume(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	ctx := t.Context()
	for _, n := range []int64{1, 511, 4096, 4097, worldBytes, 1 << 40} {
		v := driver.Volume{ID: driver.VolumeID(fmt.Sprintf("v%d", n)), Bytes: n}
		b.expect("CreateVolume", b.d.CreateVolume(ctx, b.call("op"), v), nil)
		b.expect("CreateVolume again", b.d.CreateVolume(ctx, b.call("op"), v), nil)
		b.expect("CreateVolume larger", b.d.CreateVolume(ctx, b.call("op"), driver.Volume{ID: v.ID, Bytes: n + 1}), driver.ErrExists)
		if n < 1<<30 {
			b.want[v.ID.Ref()] = make([]byte, n)
			continue
		}
		o, err := b.d.Look(ctx, v.ID.Ref()) // too large to be read
		if err != nil || o.Bytes != n {
			t.Errorf("Look(%s) = %+v, %v, want %d bytes", v.ID, o, err, n)
		}
		b.expect("DeleteVolume", b.d.DeleteVolume(ctx, b.call("op"), v.ID), nil)
	}
	b.verify("after creates")
	b.scatter("v4097", 7)
	b.expect("CreateVolume of a volume with data", b.d.CreateVolume(ctx, b.call("op"), driver.Volume{ID: "v4097", Bytes: 4097}), nil)
	b.verify("after a repeated create of a volume with data")
	for range 2 {
		b.expect("DeleteVolume", b.d.DeleteVolume(ctx, b.call("op"), "v4097"), nil)
	}
	delete(b.want, driver.VolumeID("v4097").Ref())
	b.expect("DeleteVolume of what never was", b.d.DeleteVolume(ctx, b.call("op"), "never"), nil)
	b.verify("after deletes")
	b.createVolume("v4097", 8192)
	b.verify("after a new volume with the ID of a deleted one")
}

func testExtend(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	ctx := t.Context()
	b.createVolume("v", 4000) // within a block: what is beyond the end of it must not show
	b.scatter("v", 1)
	for _, n := range []int64{4000, 4097, 4097, worldBytes} {
		b.expect(fmt.Sprintf("ExtendVolume(%d)", n), b.d.ExtendVolume(ctx, b.call("op"), b.volume("v"), n), nil)
		b.want[driver.VolumeID("v").Ref()] = grown(b.want[driver.VolumeID("v").Ref()], n)
		b.verify(fmt.Sprintf("after extend to %d", n))
	}
	b.expect("ExtendVolume to less", b.d.ExtendVolume(ctx, b.call("op"), b.volume("v"), 4096), driver.ErrShrink)
	b.expect("ExtendVolume of a missing volume", b.d.ExtendVolume(ctx, b.call("op"), driver.Volume{ID: "w", Bytes: 4096}, 8192), driver.ErrNotFound)
	b.verify("after refused extends")
}

func testClone(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	ctx := t.Context()
	b.createVolume("src", worldBytes)
	b.scatter("src", 1)
	src := b.volume("src")
	for id, n := range map[driver.VolumeID]int64{"same": worldBytes, "larger": worldBytes + 99_999} {
		b.must(Step{Method: driver.MethodCloneVolume, Volume: driver.Volume{ID: id, Bytes: n}, Source: src})
		b.want[id.Ref()] = grown(b.want[src.ID.Ref()], n)
	}
	b.verify("after clones")
	b.scatter("src", 2)
	b.scatter("same", 3)
	b.scatter("larger", 4)
	b.verify("after writes to the source and its clones")
	same := driver.Volume{ID: "same", Bytes: worldBytes}
	b.expect("CloneVolume again", b.d.CloneVolume(ctx, b.call("op"), same, src), nil)
	b.verify("after a repeated clone of a volume that was written since")
	b.expect("CloneVolume with another size", b.d.CloneVolume(ctx, b.call("op"), driver.Volume{ID: "same", Bytes: worldBytes + 1}, src), driver.ErrExists)
	b.expect("CloneVolume smaller", b.d.CloneVolume(ctx, b.call("op"), driver.Volume{ID: "less", Bytes: worldBytes - 1}, src), driver.ErrShrink)
	b.expect("CloneVolume of a missing source", b.d.CloneVolume(ctx, b.call("op"), driver.Volume{ID: "none", Bytes: 4096}, driver.Volume{ID: "missing", Bytes: 4096}), driver.ErrNotFound)
	b.must(Step{Method: driver.MethodDeleteVolume, Volume: src})
	delete(b.want, src.ID.Ref())
	b.expect("CloneVolume again after the source is gone", b.d.CloneVolume(ctx, b.call("op"), same, src), nil)
	b.verify("after the source was deleted")
}

func testSnapshot(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	ctx := t.Context()
	b.createVolume("v", worldBytes)
	b.scatter("v", 1)
	snap := b.createSnapshot("s", "v")
	b.restore("before", snap)
	b.scatter("v", 2)
	b.scatter("before", 3)
	b.verify("after writes to the volume of a snapshot and to a volume made from it")
	b.expect("CreateSnapshot again", b.d.CreateSnapshot(ctx, b.call("op"), snap), nil)
	b.verify("after a repeated snapshot of a volume that was written since")
	wrong := driver.Snapshot{ID: "s", Volume: "v", Bytes: worldBytes - 1}
	b.expect("CreateSnapshot with another size", b.d.CreateSnapshot(ctx, b.call("op"), wrong), driver.ErrExists)
	b.expect("CreateSnapshot of a size that the volume has not", b.d.CreateSnapshot(ctx, b.call("op"), driver.Snapshot{ID: "s2", Volume: "v", Bytes: worldBytes + 1}), driver.ErrSize)
	b.expect("CreateSnapshot of a missing volume", b.d.CreateSnapshot(ctx, b.call("op"), driver.Snapshot{ID: "s3", Volume: "w", Bytes: 1}), driver.ErrNotFound)
	b.expect("CreateFromSnapshot with a wrong size of the source", b.d.CreateFromSnapshot(ctx, b.call("op"), driver.Volume{ID: "x", Bytes: worldBytes}, wrong), driver.ErrSize)
	b.expect("CreateFromSnapshot of a missing source", b.d.CreateFromSnapshot(ctx, b.call("op"), driver.Volume{ID: "x", Bytes: worldBytes}, driver.Snapshot{ID: "none", Volume: "v", Bytes: worldBytes}), driver.ErrNotFound)
	b.verify("after refusals")
	for range 2 {
		b.expect("DeleteSnapshot", b.d.DeleteSnapshot(ctx, b.call("op"), snap), nil)
	}
	delete(b.want, snap.ID.Ref())
	b.verify("after the snapshot was deleted")
}

func testRevert(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	if !b.d.Info().Capabilities.Revert {
		t.Skip("the driver cannot revert")
	}
	ctx := t.Context()
	b.createVolume("v", worldBytes)
	b.scatter("v", 1)
	snap := b.createSnapshot("s", "v")
	b.restore("clone", snap)
	b.scatter("v", 2)
	ref := driver.VolumeID("v").Ref()
	for range 2 {
		b.expect("RevertVolume", b.d.RevertVolume(ctx, b.call("op"), driver.Volume{ID: "v", Bytes: worldBytes}, snap), nil)
		b.want[ref] = b.want[snap.ID.Ref()]
		b.verify("after revert")
	}
	const more = worldBytes + 5000
	b.must(Step{Method: driver.MethodExtendVolume, Volume: b.volume("v"), To: more})
	b.want[ref] = grown(b.want[ref], more)
	b.scatter("v", 3) // also beyond the end of the snapshot
	b.expect("RevertVolume of a volume that has grown", b.d.RevertVolume(ctx, b.call("op"), driver.Volume{ID: "v", Bytes: more}, snap), nil)
	b.want[ref] = grown(b.want[snap.ID.Ref()], more)
	b.verify("after revert of a volume that has grown")
	b.expect("RevertVolume to less than it has", b.d.RevertVolume(ctx, b.call("op"), driver.Volume{ID: "v", Bytes: worldBytes}, snap), driver.ErrShrink)
	b.expect("RevertVolume of a missing volume", b.d.RevertVolume(ctx, b.call("op"), driver.Volume{ID: "w", Bytes: worldBytes}, snap), driver.ErrNotFound)
	b.expect("RevertVolume to a missing snapshot", b.d.RevertVolume(ctx, b.call("op"), driver.Volume{ID: "v", Bytes: more}, driver.Snapshot{ID: "none", Volume: "v", Bytes: worldBytes}), driver.ErrNotFound)
	b.expect("RevertVolume with a wrong size of the snapshot", b.d.RevertVolume(ctx, b.call("op"), driver.Volume{ID: "v", Bytes: more}, driver.Snapshot{ID: "s", Volume: "v", Bytes: 1}), driver.ErrSize)
	b.verify("after refusals")
}

// testOldData fills, deletes, and looks whether anything of it shows again.
func testOldData(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	for round := range 4 {
		id := driver.VolumeID(fmt.Sprintf("full%d", round))
		b.createVolume(id, worldBytes)
		full := make([]byte, worldBytes)
		for i := range full {
			full[i] = 0xA5
		}
		b.write(id, 0, full)
		b.must(Step{Method: driver.MethodDeleteVolume, Volume: driver.Volume{ID: id}})
		delete(b.want, id.Ref())
		empty := driver.VolumeID(fmt.Sprintf("empty%d", round))
		b.createVolume(empty, worldBytes/2)
		b.must(Step{Method: driver.MethodExtendVolume, Volume: b.volume(empty), To: worldBytes})
		b.want[empty.Ref()] = make([]byte, worldBytes)
	}
	b.verify("after volumes with data were deleted")
}

func testList(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	ctx := t.Context()
	b.verify("fresh")
	b.buildWorld()
	b.verify("after the world was built")
	o, err := b.d.Look(ctx, snapID.Ref())
	if err != nil || o.Ref != snapID.Ref() || o.Bytes != worldBytes || o.UsedBytes < 0 {
		t.Errorf("Look(%s) = %+v, %v, want %d bytes", snapID, o, err, worldBytes)
	}
	_, err = b.d.Look(ctx, driver.VolumeID(snapID).Ref())
	b.expect("Look for a volume by a snapshot's ID", err, driver.ErrNotFound)
	_, err = b.d.Source(ctx, driver.Volume{ID: "missing", Bytes: 4096})
	b.expect("Source of a missing volume", err, driver.ErrNotFound)
	stop := fmt.Errorf("enough")
	seen := 0
	err = b.d.List(ctx, func(driver.Object) error { seen++; return stop })
	if err != stop || seen != 1 { //nolint:errorlint // it must come back as it is
		t.Errorf("List = %v after %d calls, want the callback's error after the first", err, seen)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	b.expect("List with an ended context", b.d.List(ended, func(driver.Object) error { return nil }), context.Canceled)
}

// testParallel makes many calls at once: on one source, and the same call several times.
func testParallel(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	b.buildWorld()
	snap := driver.Snapshot{ID: snapID, Volume: srcID, Bytes: worldBytes}
	fence := b.fence()
	var wg sync.WaitGroup
	for i := range 20 {
		v := driver.Volume{ID: driver.VolumeID(fmt.Sprintf("p%d", i)), Bytes: worldBytes}
		b.want[v.ID.Ref()] = b.want[snapID.Ref()]
		for range 3 { // the same call, as after a lost answer
			wg.Go(func() {
				call := driver.Call{Operation: fmt.Sprintf("op-%d", i), Fence: fence}
				if err := b.d.CreateFromSnapshot(t.Context(), call, v, snap); err != nil {
					t.Errorf("CreateFromSnapshot(%s) = %v", v.ID, err)
				}
			})
		}
	}
	wg.Wait()
	b.verify("after 20 volumes were made from one snapshot at once")
}
