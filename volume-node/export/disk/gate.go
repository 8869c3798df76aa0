package disk

import (
	"context"
	"sync"
	"time"
)

// Gate lets writes to a volume through, until holds close it. The zero value is open.
//
// Several holds share one closed time. So that hosts do not wait for ever when holds follow each other closely, a hold that
// comes after the gate has been closed for [longestJoin] waits until it has opened and those in line went in.
type Gate struct {
	mu     sync.Mutex
	inside int           // writers that have entered and not left
	holds  int           // the gate is closed while there are any
	closed time.Time     // when the first of the present holds closed it
	line   *line         // writers that wait; nil if none
	empty  chan struct{} // closed when nobody is inside any more; nil if no hold waits for that
	opened chan struct{} // closed at the next opening; nil if no hold waits for that
}

// line is the writers that came to a closed gate. They enter together, counted by the one who opens it: a hold that closes it
// again at once cannot come before them.
type line struct {
	writers int
	enter   chan struct{}
}

// longestJoin is how long after the closing another hold may still join.
const longestJoin = 2 * time.Second

// Enter waits until the gate is open and counts the caller as inside. It fails with ctx's cause if ctx ends first.
func (g *Gate) Enter(ctx context.Context) error {
	g.mu.Lock()
	if g.holds == 0 {
		g.inside++
		g.mu.Unlock()
		return nil
	}
	if g.line == nil {
		g.line = &line{enter: make(chan struct{})}
	}
	l := g.line
	l.writers++
	g.mu.Unlock()
	select {
	case <-l.enter:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	if g.line == l {
		l.writers--
		g.mu.Unlock()
	} else { // let in at the same moment
		g.mu.Unlock()
		g.Leave()
	}
	return context.Cause(ctx)
}

// Leave ends what Enter began.
func (g *Gate) Leave() {
	g.mu.Lock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
	g.mu.Unlock()
}

// Close closes the gate for one hold and waits until nobody is inside. Open ends it. If ctx ends first, the hold is
// given up and the error is ctx's cause.
func (g *Gate) Close(ctx context.Context) error {
	g.mu.Lock()
	for g.holds > 0 && time.Since(g.closed) > longestJoin {
		if g.opened == nil {
			g.opened = make(chan struct{})
		}
		opened := g.opened
		g.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		g.mu.Lock()
	}
	if g.holds == 0 {
		g.closed = time.Now()
	}
	g.holds++
	for g.inside > 0 {
		if g.empty == nil {
			g.empty = make(chan struct{})
		}
		empty := g.empty
		g.mu.Unlock()
		select {
		case <-empty:
		case <-ctx.Done():
			g.Open()
			return context.Cause(ctx)
		}
		g.mu.Lock()
	}
	g.mu.Unlock()
	return nil
}

// Open ends one hold; the last one lets the line in.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holds--
	if g.holds > 0 {
		return
	}
	if g.line != nil {
		g.inside += g.line.writers
		close(g.line.enter)
		g.line = nil
	}
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}
