package volumenode

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// lookEvery is how often a storage that is away is looked for.
const lookEvery = time.Second

// presence knows whether the storage of a backend is there. It is away from the first call that says so until it is found again, which
// is looked for until then. It says so once when it begins and once when it ends.
type presence struct {
	log  *slog.Logger
	look func(context.Context) error // one call that reaches the storage
	// life ends when the storage is looked for no more.
	life context.Context
	end  context.CancelFunc

	looking sync.WaitGroup
	mu      sync.Mutex
	why     error         // nil: it is there
	back    chan struct{} // closed when it is there again
}

// watch returns d with its presence: calls tell whether the storage is there.
func watch(d driver.Driver, log *slog.Logger) (driver.Driver, *presence) {
	p := &presence{log: log, look: func(ctx context.Context) error { _, err := d.Capacity(ctx); return err }}
	p.life, p.end = context.WithCancel(context.Background())
	return driver.Intercept(d, func(ctx context.Context, _ driver.Method, _ driver.Ref, next func(context.Context) error) error {
		err := next(ctx)
		if errors.Is(err, driver.ErrAway) {
			p.away(err)
		}
		return err
	}), p
}

// away notes that the storage is away, and returns what is closed when it is back.
func (p *presence) away(why error) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why != nil || p.life.Err() != nil {
		return p.back
	}
	p.why, p.back = why, make(chan struct{})
	p.log.Error("the storage of the backend is away: its operations wait until it is back", "error", why)
	p.looking.Go(p.lookFor)
	return p.back
}

// storageBack returns what is closed when the storage is back whose absence is the error of a step; nil: it is another error.
func (n *Node) storageBack(backend string, err error) <-chan struct{} {
	if errors.Is(err, driver.ErrAway) {
		for _, b := range n.served {
			if b.spec.Name == backend {
				return b.away(err)
			}
		}
	}
	return nil
}

// lookFor returns when the storage is back, or is not to be looked for any more.
func (p *presence) lookFor() {
	began := time.Now()
	for sleep(p.life, lookEvery) {
		if errors.Is(p.look(p.life), driver.ErrAway) || p.life.Err() != nil {
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.why = nil
		close(p.back)
		p.log.Warn("the storage of the backend is back: its operations go on", "took", time.Since(began).Round(time.Second))
		return
	}
}

// absence says why the storage is away; empty: it is there.
func (p *presence) absence() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why == nil {
		return ""
	}
	return p.why.Error()
}

// close ends the search. Nobody calls the driver any more.
func (p *presence) close() {
	p.end()
	p.looking.Wait()
}
