package drivertest

import (
	"fmt"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// refuses reports whether the driver itself refuses lower fences.
func refuses(info driver.Info) bool { return info.Fencing != driver.FencingNone }

func testFences(t *testing.T, cfg Config) {
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			b := openFresh(t, cfg, Env{})
			if !refuses(b.d.Info()) {
				t.Skip("fencing class none: the driver keeps no fences")
			}
			b.buildWorld()
			low, mid, high := b.fence(), b.fence(), driver.Fence{Era: 1, Rev: 1}
			ctx := t.Context()
			raise := func(f driver.Fence) error {
				return b.d.RaiseFence(ctx, driver.Call{Operation: "op-raise", Fence: f}, sc.step.target())
			}
			b.expect("RaiseFence", raise(mid), nil)
			b.expect("RaiseFence again", raise(mid), nil)
			b.expect("RaiseFence lower", raise(low), driver.ErrFenced)
			b.expect(sc.name+" with a lower fence", sc.step.do(ctx, b.d, sc.step.with(low).call()), driver.ErrFenced)
			b.verify("after a call with a lower fence")

			again := openBench(t, b.spec, Env{}) // fences outlive the process
			again.want = b.want.clone()
			again.rev.Store(b.rev.Load())
			b.expect(sc.name+" with a lower fence after the storage was opened again",
				sc.step.do(ctx, again.d, sc.step.with(low).call()), driver.ErrFenced)
			b.expect(sc.name+" with the same fence", sc.step.do(ctx, again.d, sc.step.with(mid).call()), nil)
			b.expect(sc.name+" with a higher era", sc.step.do(ctx, again.d, sc.step.with(high).call()), nil)
			b.expect("RaiseFence to a higher revision of a lower era", raise(driver.Fence{Rev: 1 << 60}), driver.ErrFenced)
			sc.apply(again.want)
			again.verify("after calls with rising fences")
		})
	}
}

// testFencesOfSources proves that reading neither checks nor raises a fence.
func testFencesOfSources(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	if !refuses(b.d.Info()) {
		t.Skip("fencing class none: the driver keeps no fences")
	}
	b.buildWorld()
	ctx := t.Context()
	snap := driver.Snapshot{ID: snapID, Volume: srcID, Bytes: worldBytes}
	high, low := driver.Fence{Rev: 1000}, driver.Fence{Rev: 900}
	for _, ref := range []driver.Ref{srcID.Ref(), snapID.Ref()} {
		b.expect("RaiseFence", b.d.RaiseFence(ctx, driver.Call{Operation: "op-high", Fence: high}, ref), nil)
	}
	lowCall := driver.Call{Operation: "op-low", Fence: low}
	read := func(n int, call driver.Call) {
		dst := func(kind string) driver.Volume {
			return driver.Volume{ID: driver.VolumeID(fmt.Sprintf("%s%d", kind, n)), Bytes: worldBytes}
		}
		b.expect("CloneVolume", b.d.CloneVolume(ctx, call, dst("clone"), driver.Volume{ID: srcID, Bytes: worldBytes}), nil)
		b.want[dst("clone").ID.Ref()] = b.want[srcID.Ref()]
		b.expect("CreateFromSnapshot", b.d.CreateFromSnapshot(ctx, call, dst("restored"), snap), nil)
		b.want[dst("restored").ID.Ref()] = b.want[snapID.Ref()]
		s := driver.Snapshot{ID: driver.SnapshotID(fmt.Sprintf("s%d", n)), Volume: srcID, Bytes: worldBytes}
		b.expect("CreateSnapshot", b.d.CreateSnapshot(ctx, call, s), nil)
		b.want[s.ID.Ref()] = b.want[srcID.Ref()]
	}
	read(1, lowCall) // below the sources' fences
	read(2, driver.Call{Operation: "op-higher", Fence: driver.Fence{Rev: 2000}})
	b.expect("ExtendVolume of a source with the fence it had", b.d.ExtendVolume(ctx, driver.Call{Operation: "op-high", Fence: high}, driver.Volume{ID: srcID, Bytes: worldBytes}, worldBytes), nil)
	b.rev.Store(3000)
	b.verify("after reads with lower and higher fences than the sources'")
}
