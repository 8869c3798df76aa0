package linearizability

import (
	"context"
	"errors"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/internal/history"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// wait stands in line, for as long as it takes or for a moment. asked is the revision of the write that put it there; 0 if that is not known.
func (c *client) wait(owner string, claims []kvlock.Claim) (g kvlock.Grant, asked kvtx.Revision, ok bool) {
	call := c.rec.Begin()
	defer call.End()
	asked, err := c.queue(owner, claims)
	if err == nil {
		ctx, cancel := c.moment()
		g, err = c.p.locks.Acquire(ctx, owner, nil, kvlock.Wait{}, claims...)
		cancel()
	}
	if err == nil {
		saw(call, history.Take, owner, claims)
		return g, asked, true
	}
	if c.ctx.Err() != nil || !ended(err) && !errors.Is(err, kvlock.ErrDeadline) && !errors.Is(err, kvlock.ErrVoid) {
		c.fail("Acquire(%s): %v", owner, err)
	} else if c.leave(owner) {
		saw(call, history.Take, owner, claims)
		saw(call, history.Give, owner, claims)
	}
	return g, 0, false
}

// queue puts the operation in line.
func (c *client) queue(owner string, claims []kvlock.Claim) (kvtx.Revision, error) {
	ctx, cancel := c.moment()
	rec, err := c.p.locks.Queue(ctx, owner, nil, kvlock.Wait{}, claims...)
	cancel()
	if !unknown(err) {
		return rec.Revision, err
	}
	err = c.settled(func(ctx context.Context) (err error) {
		rec, err = c.p.locks.Queue(ctx, owner, nil, kvlock.Wait{}, claims...)
		return err
	})
	var exists *kvlock.ExistsError
	switch {
	case !errors.As(err, &exists):
		return rec.Revision, err
	case exists.Record.Phase == kvlock.Queued:
		return exists.Record.Revision, nil
	}
	return 0, nil // it was granted meanwhile, by another write
}

// leave makes sure that an operation which gave up has ended, and says whether it had its claims for a moment.
func (c *client) leave(owner string) (granted bool) {
	var rec kvlock.Record
	err := c.settled(func(ctx context.Context) (err error) {
		if rec, err = c.p.locks.Record(ctx, owner); err != nil || !rec.Live() {
			return err
		}
		if rec, err = c.p.locks.Leave(ctx, owner, "gave up"); errors.Is(err, kvlock.ErrInvalid) { // it was granted
			return c.p.locks.Break(ctx, owner, "gave up", kvlock.NothingFenced)
		}
		return err
	})
	if err != nil && !errors.Is(err, kvlock.ErrNotFound) && !errors.Is(err, kvlock.ErrEnded) {
		c.t.Errorf("leave of %s: %v", owner, err)
	}
	err = c.settled(func(ctx context.Context) (err error) {
		rec, err = c.p.locks.Record(ctx, owner)
		return err
	})
	if errors.Is(err, kvlock.ErrNotFound) {
		return false
	}
	if err != nil || rec.Live() {
		c.t.Errorf("Record(%s) after giving up is %s, %v: want it ended", owner, rec.Phase, err)
	}
	return !rec.Granted.IsZero()
}
