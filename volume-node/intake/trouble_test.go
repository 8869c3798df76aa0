package intake_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/export"
)

// trouble loses requests and answers of stores, and lets calls of drivers fail before and after their effect.
type trouble struct {
	mu  sync.Mutex
	rng *rand.Rand
	on  atomic.Bool
	met atomic.Int64

	calls sync.Map // of drivers, by the ID of the thing: a *strings.Builder that mu guards
}

// noted says what calls of drivers came back with.
func (x *trouble) noted(m driver.Method, id, how string, began time.Time, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	all, _ := x.calls.LoadOrStore(id, new(strings.Builder))
	fmt.Fprintf(all.(*strings.Builder), "\n  %s%s, %s to %s: %v", m, how, began.Format("05.000"), time.Now().Format("05.000"), err)
}

// story tells of all calls of drivers for a thing.
func (x *trouble) story(id string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if all, there := x.calls.Load(id); there {
		return all.(*strings.Builder).String()
	}
	return ""
}

// comes says whether something goes wrong now, once in n.
func (x *trouble) comes(n int) bool {
	if !x.on.Load() {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.rng.IntN(n) != 0 {
		return false
	}
	x.met.Add(1)
	return true
}

func (x *trouble) intn(n int) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.rng.IntN(n)
}

var errTrouble = errors.New("made by the test")

func (x *trouble) store() kvtx.Option {
	return kvtx.WithInterceptor(func(ctx context.Context, _ kvtx.Call, next func(context.Context) error) error {
		if x.comes(25) {
			return errTrouble
		}
		err := next(ctx)
		if err == nil && x.comes(25) {
			return errTrouble
		}
		return err
	})
}

// driver is that of a worker that dies when dead is closed: a call that is on its way then may have its effect later.
func (x *trouble) driver(d driver.Driver, dead <-chan struct{}) driver.Driver {
	return driver.Intercept(d, func(ctx context.Context, m driver.Method, ref driver.Ref, next func(context.Context) error) (err error) {
		began, how := time.Now(), ""
		defer func() { x.noted(m, ref.ID, how, began, err) }()
		if x.comes(10) {
			select {
			case <-dead:
				<-time.After(time.Duration(x.intn(2000)) * time.Millisecond) // a successor comes after a second
				ctx, how = context.WithoutCancel(ctx), " of a dead worker"
			case <-time.After(20 * time.Millisecond):
			}
		}
		switch {
		case x.comes(12):
			return errTrouble
		case x.comes(40):
			return fmt.Errorf("%w: %w", errTrouble, driver.ErrNoSpace)
		}
		err = next(ctx)
		if err == nil && x.comes(12) {
			return fmt.Errorf("%w: %w", errTrouble, driver.ErrUnknown)
		}
		return err
	})
}

// exporter loses calls and answers of the export server.
type exporter struct {
	export.Exporter
	x *trouble
}

func (e exporter) Export(ctx context.Context, r export.Request) (export.Connection, error) {
	if e.x.comes(12) {
		return export.Connection{}, errTrouble
	}
	c, err := e.Exporter.Export(ctx, r)
	if err == nil && e.x.comes(12) {
		return export.Connection{}, errTrouble
	}
	return c, err
}

func (e exporter) Unexport(ctx context.Context, r export.Removal) error {
	if e.x.comes(12) {
		return errTrouble
	}
	err := e.Exporter.Unexport(ctx, r)
	if err == nil && e.x.comes(12) {
		return errTrouble
	}
	return err
}
