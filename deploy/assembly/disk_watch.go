package assembly

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scoria-storage/scoria/deploy/embednats"
)

// watchEvery is how often the disk and the NATS server are looked at.
const watchEvery = 200 * time.Millisecond

// restartPause is the least time between two starts of a server whose writes fail although there is room.
const restartPause = 5 * time.Second

// server is the NATS server on the disk.
type server interface {
	Broken() error
	Restart(context.Context) error
}

// stuck says whether nothing can be committed: there is next to no room, or the server is broken.
func (d *disk) stuck(srv server) bool { return !d.space().enough(fullBytes) || srv.Broken() != nil }

// watch looks after the disk until ctx ends: first while the nodes start, until started gets what says how many operations are under way,
// then while they run. A start that the disk does not let come to its end is given up with the reason.
func (d *disk) watch(ctx context.Context, srv server, started <-chan func() int, giveUp func(error)) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case underWay := <-started:
			d.watchRunning(ctx, srv, underWay, giveUp)
			return
		case <-tick.C:
		}
		switch {
		case !d.stuck(srv):
		case d.held.Load():
			d.release()
		default:
			giveUp(d.startError())
		}
	}
}

// watchEnd cuts the nodes off from the server if, when they are told to end, nothing can be committed: they would wait for that. The next
// start takes it up.
func (d *disk) watchEnd(running context.Context, srv server, ended <-chan struct{}, cut func()) {
	select {
	case <-running.Done():
	case <-ended:
		return
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for !d.stuck(srv) {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
	}
	cut()
}

// watchRunning does what keeps the process going on a full disk: it says that the disk is full and that it has room again, in the log; it
// gives up the reserve for operations under way; it starts the server again which a full disk has broken. With a server that cannot be
// started again it gives up.
func (d *disk) watchRunning(ctx context.Context, srv server, underWay func() int, giveUp func(error)) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var full bool
	var short error
	var next time.Time // earliest next start of the server
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		broken := srv.Broken()
		if errors.Is(broken, embednats.ErrHangs) {
			giveUp(fmt.Errorf("%w, as it may when it meets a full disk, and is not to be healed in this process: start again; nothing that was acknowledged is lost", broken))
			return
		}
		wasFull := full
		if full = d.full() != nil; wasFull && !full {
			next = time.Time{} // its writes failed for want of room
		}
		if d.restart(ctx, srv, broken, time.Now().After(next)) {
			next = time.Now().Add(restartPause)
		}
		was := short
		switch short = d.Short(); {
		case short != nil && was == nil:
			d.log.ErrorContext(ctx, "storage is full", "error", short)
		case short == nil && was != nil:
			d.log.InfoContext(ctx, "storage has room again", "path", d.dir)
		}
		if underWay() > 0 {
			d.Spare()
		}
	}
}

// restart starts a broken server again if there is room and it is time, and says whether it did. All that was acknowledged is on the disk.
func (d *disk) restart(ctx context.Context, srv server, broken error, due bool) bool {
	if broken == nil {
		d.broken.set("")
		return false
	}
	d.broken.set(broken.Error() + "; it is started again in a moment; nothing that was acknowledged is lost")
	if !due {
		return false
	}
	if free := d.space(); !free.enough(startBytes) && free.enough(fullBytes) {
		d.release() // somebody made some room, which the reserve makes enough
	}
	if !d.space().enough(startBytes) {
		return false
	}
	d.log.ErrorContext(ctx, "NATS server is started again", "error", broken)
	if err := srv.Restart(ctx); err != nil {
		if ctx.Err() == nil {
			d.log.ErrorContext(ctx, "NATS server does not start, it is tried again", "error", err)
		}
		return true
	}
	d.broken.set("")
	d.log.InfoContext(ctx, "NATS server is back")
	return true
}
