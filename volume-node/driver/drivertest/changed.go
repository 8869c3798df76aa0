package drivertest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// testChangedSizes says of things that they have another size than they have, as where something other than Scoria
// changed them. A driver sees no difference: both times what it has is not what it is told.
func testChangedSizes(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	b.buildWorld()
	ctx := t.Context()
	const most = 1 << 20
	dst := driver.Volume{ID: newID, Bytes: most}
	for _, n := range []int64{worldBytes - 1, worldBytes + 1, 1, worldBytes * 2} {
		vol, snap := driver.Volume{ID: srcID, Bytes: n}, driver.Snapshot{ID: snapID, Volume: srcID, Bytes: n}
		_, sourceErr := b.d.Source(ctx, vol)
		for what, err := range map[string]error{
			"CloneVolume":        b.d.CloneVolume(ctx, b.call("op"), dst, vol),
			"CreateFromSnapshot": b.d.CreateFromSnapshot(ctx, b.call("op"), dst, snap),
			"CreateSnapshot":     b.d.CreateSnapshot(ctx, b.call("op"), driver.Snapshot{ID: newSn, Volume: srcID, Bytes: n}),
			"ExtendVolume":       b.d.ExtendVolume(ctx, b.call("op"), vol, most),
			"Source":             sourceErr,
		} {
			b.expect(fmt.Sprintf("%s of what is said to have %d bytes", what, n), err, driver.ErrSize)
			for _, number := range []int64{n, worldBytes} {
				if err != nil && !strings.Contains(err.Error(), fmt.Sprint(number)) {
					t.Errorf("%s = %q, want words with both sizes, %d and %d", what, err, n, worldBytes)
				}
			}
		}
	}
	b.verify("after calls with sizes that things have not")
}
