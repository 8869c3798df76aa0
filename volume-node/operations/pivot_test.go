package operations_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// An extend or a revert that took effect, and whose worker died or could not tell, must not end undone because the backend refuses the
// repeated call: the volume would be larger, or have lost data, and be called unchanged.
func TestPivotThatMayHaveTakenEffectIsNotUndone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method driver.Method
		req    messages.Request
	}{
		{driver.MethodExtendVolume, &messages.ExtendVolume{Volume: vol1, SizeGiB: 3}},
		{driver.MethodRevertVolume, &messages.RevertVolume{Volume: vol1, Snapshot: snap1}},
	} {
		for _, first := range []string{"dies", "cannot tell"} {
			t.Run(fmt.Sprintf("%s, first try %s", c.method, first), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.do(create(vol1, 1))
				w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
				die, death := context.WithCancel(t.Context())
				full := true
				calls := 0
				w.wrap(func(d driver.Driver) driver.Driver {
					return driver.Intercept(d, func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
						if m != c.method {
							return next(ctx)
						}
						calls++
						switch {
						case calls > 1 && full:
							return fmt.Errorf("made by the test: %w", driver.ErrNoSpace)
						case calls > 1:
							return next(ctx)
						case first == "dies":
							defer death()
						}
						if err := next(ctx); err != nil {
							t.Error(err)
						}
						return fmt.Errorf("made by the test: %w", driver.ErrUnknown)
					})
				})
				if err := w.submit(t.Context(), opID, c.req); err != nil {
					t.Fatal(err)
				}
				quick := saga.WithWaitCeiling(time.Millisecond)
				st, err := w.drive(die, opID, quick)
				if first == "dies" {
					if err == nil {
						t.Fatalf("the first worker did not die: %s", st.Phase)
					}
					st, err = w.drive(t.Context(), opID, quick)
				}
				if err != nil || st.Phase != saga.Stuck {
					t.Fatalf("%s, %v, cause %v; want stuck", st.Phase, err, st.Cause)
				}
				full = false
				if err := w.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
				if st, err := w.drive(t.Context(), opID, quick); err != nil || st.Phase != saga.Done {
					t.Errorf("resumed: %s, %v, cause %v; want done", st.Phase, err, st.Cause)
				}
				v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1))
				if v.Status != block.VolumeAvailable {
					t.Errorf("the volume is %s", v.Status)
				}
			})
		}
	}
}

// TestAnExtendWaitsForTheStorageToLook: its first try may have taken effect, the second is refused, and whether the volume has grown cannot be
// looked at, because its storage is away. That is no reason to guess, or to get stuck: the step says that it is away, and is called again.
func TestAnExtendWaitsForTheStorageToLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(create(vol1, 1))
	die, death := context.WithCancel(t.Context())
	away, calls := true, 0
	w.wrap(func(d driver.Driver) driver.Driver {
		return driver.Intercept(d, func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
			switch {
			case m == driver.MethodLook && away:
				return fmt.Errorf("made by the test: %w", driver.ErrAway)
			case m != driver.MethodExtendVolume:
				return next(ctx)
			}
			if calls++; calls == 1 {
				defer death()
				if err := next(ctx); err != nil {
					t.Error(err)
				}
				return fmt.Errorf("made by the test: %w", driver.ErrUnknown)
			}
			if away {
				return fmt.Errorf("made by the test: %w", driver.ErrNoSpace)
			}
			return next(ctx)
		})
	})
	if err := w.submit(t.Context(), opID, &messages.ExtendVolume{Volume: vol1, SizeGiB: 3}); err != nil {
		t.Fatal(err)
	}
	quick := saga.WithWaitCeiling(time.Millisecond)
	if st, err := w.drive(die, opID, quick); err == nil {
		t.Fatalf("the first worker did not die: %s", st.Phase)
	}
	waited := 0
	st, err := w.drive(t.Context(), opID, quick, saga.WithAround(func(ctx context.Context, _ saga.Call, next func(context.Context) error) error {
		for {
			err := next(ctx)
			if !errors.Is(err, driver.ErrAway) {
				return err
			}
			waited++
			away = false
		}
	}))
	if err != nil || st.Phase != saga.Done || waited != 1 {
		t.Errorf("%s, %v, cause %v, and it waited %d times for the storage; want done, and once", st.Phase, err, st.Cause, waited)
	}
}
