package drivertest

import (
	"errors"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// RunFull runs only the tests of a full storage.
func RunFull(t *testing.T, cfg Config) { testFull(t, cfg) }

// testFull makes every call on a storage without any room: it succeeds or says that there is none, and leaves nothing;
// what frees room succeeds.
func testFull(t *testing.T, cfg Config) {
	if cfg.Small == nil {
		if cfg.CannotSmall == "" {
			t.Fatal("drivertest: Config has neither Small nor CannotSmall")
		}
		t.Skip(cfg.CannotSmall)
	}
	met := 0
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			small := cfg.Small(t)
			b := openBench(t, small.Spec, Env{})
			b.buildWorld()
			small.Fill(t)
			err := sc.step.do(t.Context(), b.d, sc.step.with(b.fence()).call())
			switch {
			case err == nil:
				sc.apply(b.want)
			case errors.Is(err, driver.ErrNoSpace):
				met++
				if m := sc.step.Method; m == driver.MethodDeleteVolume || m == driver.MethodDeleteSnapshot {
					t.Errorf("%s on a full storage = %v, want nil: it is what frees room", sc.name, err)
				}
			default:
				t.Errorf("%s on a full storage = %v, want nil or ErrNoSpace", sc.name, err)
			}
			b.verifyList(sc.name + " on a full storage")
			small.Free(t)
			b.verify("with room again")
			if err != nil {
				b.must(sc.step)
				sc.apply(b.want)
				b.verify("made again with room")
			}
		})
	}
	if met == 0 {
		t.Error("no call met the full storage: what was to fill it did not")
	}
}
