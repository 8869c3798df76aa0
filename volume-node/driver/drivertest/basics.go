package drivertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

func testSizes(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	ctx := t.Context()
	w := driver.Volume{ID: "w", Bytes: 4096}
	for _, n := range []int64{0, -1, -1 << 40} {
		v, s := driver.Volume{ID: "v", Bytes: n}, driver.Snapshot{ID: "s", Volume: "v", Bytes: n}
		b.expect(fmt.Sprintf("CreateVolume(%d bytes)", n), b.d.CreateVolume(ctx, b.call("op"), v), driver.ErrInvalid)
		b.expect(fmt.Sprintf("CloneVolume(%d bytes)", n), b.d.CloneVolume(ctx, b.call("op"), v, w), driver.ErrInvalid)
		b.expect(fmt.Sprintf("CloneVolume(source of %d bytes)", n), b.d.CloneVolume(ctx, b.call("op"), w, v), driver.ErrInvalid)
		b.expect(fmt.Sprintf("ExtendVolume(%d bytes)", n), b.d.ExtendVolume(ctx, b.call("op"), w, n), driver.ErrInvalid)
		b.expect(fmt.Sprintf("ExtendVolume(from %d bytes)", n), b.d.ExtendVolume(ctx, b.call("op"), v, 4096), driver.ErrInvalid)
		b.expect(fmt.Sprintf("CreateSnapshot(%d bytes)", n), b.d.CreateSnapshot(ctx, b.call("op"), s), driver.ErrInvalid)
	}
	smaller := driver.Volume{ID: "w", Bytes: 4095}
	snap := driver.Snapshot{ID: "s", Volume: "v", Bytes: 4096}
	b.must(Step{Method: driver.MethodCreateVolume, Volume: driver.Volume{ID: "v", Bytes: 4096}})
	b.must(Step{Method: driver.MethodCreateSnapshot, Snapshot: snap})
	b.expect("CloneVolume(smaller)", b.d.CloneVolume(ctx, b.call("op"), smaller, driver.Volume{ID: "v", Bytes: 4096}), driver.ErrShrink)
	b.expect("ExtendVolume(smaller)", b.d.ExtendVolume(ctx, b.call("op"), driver.Volume{ID: "v", Bytes: 4096}, 4095), driver.ErrShrink)
	b.expect("CreateFromSnapshot(smaller)", b.d.CreateFromSnapshot(ctx, b.call("op"), smaller, snap), driver.ErrShrink)
	b.expect("RevertVolume(smaller)", b.d.RevertVolume(ctx, b.call("op"), driver.Volume{ID: "v", Bytes: 4095}, snap), driver.ErrShrink)
}

// attacks are IDs that must never become a path.
func attacks() []string {
	return []string{
		"", ".", "..", "/", "../v", "a/b", "/etc/passwd", "a\x00b", "a b", "a.b", ".tmp-op-v", "a\nb", "ä", "a,b", "%2e%2e",
		strings.Repeat("x", 65), strings.Repeat("../", 20) + "etc/passwd",
	}
}

func testNames(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	ctx := t.Context()
	for _, name := range attacks() {
		v, s := driver.Volume{ID: driver.VolumeID(name), Bytes: 4096}, driver.Snapshot{ID: driver.SnapshotID(name), Volume: "v", Bytes: 4096}
		fine, fineSnap := driver.Volume{ID: "v", Bytes: 4096}, driver.Snapshot{ID: "s", Volume: "v", Bytes: 4096}
		for what, err := range map[string]error{
			"CreateVolume":              b.d.CreateVolume(ctx, b.call("op"), v),
			"CloneVolume":               b.d.CloneVolume(ctx, b.call("op"), v, fine),
			"CloneVolume source":        b.d.CloneVolume(ctx, b.call("op"), fine, v),
			"CreateFromSnapshot":        b.d.CreateFromSnapshot(ctx, b.call("op"), v, fineSnap),
			"CreateFromSnapshot source": b.d.CreateFromSnapshot(ctx, b.call("op"), fine, s),
			"ExtendVolume":              b.d.ExtendVolume(ctx, b.call("op"), v, 8192),
			"DeleteVolume":              b.d.DeleteVolume(ctx, b.call("op"), v.ID),
			"CreateSnapshot":            b.d.CreateSnapshot(ctx, b.call("op"), s),
			"CreateSnapshot source":     b.d.CreateSnapshot(ctx, b.call("op"), driver.Snapshot{ID: "s", Volume: v.ID, Bytes: 4096}),
			"DeleteSnapshot":            b.d.DeleteSnapshot(ctx, b.call("op"), s),
			"RevertVolume":              b.d.RevertVolume(ctx, b.call("op"), v, fineSnap),
			"RevertVolume source":       b.d.RevertVolume(ctx, b.call("op"), fine, s),
			"RaiseFence":                b.d.RaiseFence(ctx, b.call("op"), v.ID.Ref()),
			"operation":                 b.d.CreateVolume(ctx, b.call(name), fine),
		} {
			if !errors.Is(err, driver.ErrInvalid) {
				t.Errorf("%s with the name %q = %v, want ErrInvalid", what, name, err)
			}
		}
		if b.d.Info().Capabilities.KeepsData {
			_, err := b.d.Source(ctx, v)
			b.expect(fmt.Sprintf("Source(%q)", name), err, driver.ErrInvalid)
			_, err = b.d.Look(ctx, s.ID.Ref())
			b.expect(fmt.Sprintf("Look(%q)", name), err, driver.ErrInvalid)
		}
	}
	b.expect("RaiseFence(temporary)", b.d.RaiseFence(ctx, b.call("op"), driver.Ref{Kind: driver.KindTemporary, ID: "v"}), driver.ErrInvalid)
	if b.d.Info().Capabilities.KeepsData {
		b.verify("after attacks by names")
	}
}

func testContext(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.d.CreateVolume(ctx, b.call("op"), driver.Volume{ID: "v", Bytes: 4096})
	b.expect("CreateVolume with a context that has ended", err, context.Canceled)
	if b.d.Info().Capabilities.KeepsData {
		b.verify("after a call with an ended context")
	}
}

func testCapacity(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	c, err := b.d.Capacity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.TotalBytes <= 0 || c.FreeBytes < 0 || c.FreeBytes > c.TotalBytes || c.Oversubscription < 1 {
		t.Errorf("Capacity = %+v, want 0 ≤ free ≤ total, and oversubscription of at least 1", c)
	}
}

// testKeepsNothing holds a driver that keeps no data to saying so.
func testKeepsNothing(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	if b.d.Info().Capabilities.KeepsData {
		t.Skip("the driver keeps data")
	}
	for range 2 {
		for _, s := range scenarios() {
			b.must(s.step)
		}
	}
	ctx := t.Context()
	b.expect("List", b.d.List(ctx, func(driver.Object) error { return nil }), driver.ErrUnsupported)
	_, err := b.d.Look(ctx, newID.Ref())
	b.expect("Look", err, driver.ErrUnsupported)
	_, err = b.d.Source(ctx, driver.Volume{ID: newID, Bytes: worldBytes})
	b.expect("Source", err, driver.ErrUnsupported)
	b.expect("Cleanup", b.d.Cleanup(ctx, func(string) bool { return true }), nil)
}
