package drivertest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// errLost is what a hold that was lost says.
var errLost = errors.New("the hold was lost")

// testHold copies sources that hosts have open.
func testHold(t *testing.T, cfg Config) {
	for _, sc := range scenarios() {
		if sc.name != "clone" && sc.name != "create snapshot" {
			continue // snapshots are not open, and no other call reads a volume
		}
		t.Run(sc.name, func(t *testing.T) {
			b := openFresh(t, cfg, Env{})
			b.buildWorld()
			var held, released int
			lost := errLost
			call := func() driver.Call {
				c := sc.step.with(b.fence()).call()
				c.Hold = func(context.Context) (func() error, error) {
					held++
					return func() error { released++; return lost }, nil
				}
				return c
			}
			if !b.d.Info().Capabilities.CloneWhileOpen {
				b.expect(sc.name+" of an open source", sc.step.do(t.Context(), b.d, call()), driver.ErrBusyOpen)
				if held != 0 {
					t.Errorf("the source was held %d times though it could not be copied", held)
				}
				b.verify("after a refused copy")
				return
			}
			b.expect(sc.name+" with a lost hold", sc.step.do(t.Context(), b.d, call()), errLost)
			b.verify("after a copy whose hold was lost")
			lost = nil
			b.expect(sc.name+" with a hold", sc.step.do(t.Context(), b.d, call()), nil)
			sc.apply(b.want)
			b.verify("after a copy with a hold")
			if held != 2 || released != 2 {
				t.Errorf("held %d times, released %d times, want 2 and 2", held, released)
			}
			refused := call()
			refused.Hold = func(context.Context) (func() error, error) { return nil, errLost }
			b.expect(sc.name+" again", sc.step.do(t.Context(), b.d, refused), nil) // it is there: nothing to hold
		})
	}
}

// testCancelledCopy ends the context of a copy, and overtakes one, in its middle.
func testCancelledCopy(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	b.buildWorld()
	if b.d.Info().Capabilities.CloneWhileOpen {
		t.Skip("copies take a moment only")
	}
	var sc scenario
	for _, sc = range scenarios() {
		if sc.name == "clone" {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	call := sc.step.with(b.fence()).call()
	call.Progress = func(done, total int64) {
		if done > 0 && done < total {
			cancel()
		}
	}
	b.expect("clone that is cancelled in its middle", sc.step.do(ctx, b.d, call), context.Canceled)
	b.verify("after a cancelled copy")

	if b.d.Info().Fencing == driver.FencingNode {
		b.overtakeCopy(sc)
	}

	last := int64(-1)
	call = sc.step.with(b.fence()).call()
	call.Progress = func(done, total int64) {
		if done < last || done > total {
			t.Errorf("Progress(%d, %d) after %d", done, total, last)
		}
		last = done
	}
	b.expect("clone", sc.step.do(t.Context(), b.d, call), nil)
	if last <= 0 {
		t.Error("Progress was never told of anything")
	}
	sc.apply(b.want)
	b.verify("after a copy")
}

// overtakeCopy lets a worker of this process take over while a copy of another runs: the copy ends by itself.
func (b *bench) overtakeCopy(sc scenario) {
	t := b.t
	low, high := b.fence(), b.fence()
	raised := make(chan error, 1)
	var waits atomic.Bool
	call := sc.step.with(low).call()
	call.Progress = func(done, total int64) {
		if done == 0 || waits.Load() {
			return
		}
		go func() {
			c := driver.Call{Operation: "op-high", Fence: high, Waiting: func(string) { waits.Store(true) }}
			raised <- b.d.RaiseFence(t.Context(), c, sc.step.target())
		}()
		for !waits.Load() && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	b.expect("clone that is overtaken in its middle", sc.step.do(t.Context(), b.d, call), driver.ErrFenced)
	b.expect("RaiseFence while a copy runs", <-raised, nil)
	b.verify("after an overtaken copy")
}
