package file

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/lock"
)

// CreateVolume makes an empty sparse file.
func (d *Driver) CreateVolume(ctx context.Context, call driver.Call, dst driver.Volume) error {
	if err := dst.Check(); err != nil {
		return err
	}
	return d.locked(ctx, call, dst.ID.Ref(), func(t task) error {
		return t.createOnce(dst.Bytes, func(*os.File) error { return nil })
	})
}

// CloneVolume copies a volume.
func (d *Driver) CloneVolume(ctx context.Context, call driver.Call, dst, src driver.Volume) error {
	if err := errors.Join(dst.Check(), src.Check()); err != nil {
		return err
	}
	return d.locked(ctx, call, dst.ID.Ref(), func(t task) error {
		return t.createOnce(dst.Bytes, func(tmp *os.File) error {
			return t.copyFrom(tmp, dst.Bytes, src.ID.Ref(), src.Bytes)
		})
	})
}

// CreateFromSnapshot copies a snapshot.
func (d *Driver) CreateFromSnapshot(ctx context.Context, call driver.Call, dst driver.Volume, src driver.Snapshot) error {
	if err := errors.Join(dst.Check(), src.Check()); err != nil {
		return err
	}
	return d.locked(ctx, call, dst.ID.Ref(), func(t task) error {
		return t.createOnce(dst.Bytes, func(tmp *os.File) error {
			return t.copyFrom(tmp, dst.Bytes, src.ID.Ref(), src.Bytes)
		})
	})
}

// CreateSnapshot copies a volume to a snapshot.
func (d *Driver) CreateSnapshot(ctx context.Context, call driver.Call, dst driver.Snapshot) error {
	if err := dst.Check(); err != nil {
		return err
	}
	return d.locked(ctx, call, dst.ID.Ref(), func(t task) error {
		return t.createOnce(dst.Bytes, func(tmp *os.File) error {
			return t.copyFrom(tmp, dst.Bytes, dst.Volume.Ref(), dst.Bytes)
		})
	})
}

// RevertVolume puts a copy of the snapshot in the place of the volume.
func (d *Driver) RevertVolume(ctx context.Context, call driver.Call, dst driver.Volume, src driver.Snapshot) error {
	if err := errors.Join(dst.Check(), src.Check()); err != nil {
		return err
	}
	return d.locked(ctx, call, dst.ID.Ref(), func(t task) error {
		st, err := t.folder.stat(t.ref.ID)
		if err != nil {
			return err
		}
		if st.Size > dst.Bytes {
			return fmt.Errorf("%s has %d bytes, revert to %d: %w", t.ref, st.Size, dst.Bytes, driver.ErrShrink)
		}
		return t.build(dst.Bytes, func(tmp *os.File) error {
			return t.copyFrom(tmp, dst.Bytes, src.ID.Ref(), src.Bytes)
		})
	})
}

// ExtendVolume makes the file longer.
func (d *Driver) ExtendVolume(ctx context.Context, call driver.Call, v driver.Volume, to int64) error {
	if err := errors.Join(v.Check(), driver.Volume{ID: v.ID, Bytes: to}.Check()); err != nil {
		return err
	}
	return d.locked(ctx, call, v.ID.Ref(), func(t task) (err error) {
		file, st, err := t.folder.open(t.ref.ID, unix.O_RDWR)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		switch {
		case to < v.Bytes:
			return fmt.Errorf("%s has %d bytes, extend to %d: %w", t.ref, v.Bytes, to, driver.ErrShrink)
		case st.Size != to: // or an earlier call has done it
			if err := t.folder.expect(t.ref.ID, st.Size, v.Bytes); err != nil {
				return err
			}
		}
		if err := t.ready(); err != nil {
			return err
		}
		if st.Size < to {
			if err := t.folder.truncate(file, to); err != nil {
				return fmt.Errorf("%s: extend to %d bytes: %w", t.ref, to, space(err))
			}
		}
		// An earlier call may have been cut off just here, so the size is synced even if it is reached already.
		if err := t.folder.syncFile(file); err != nil {
			return fmt.Errorf("%s: extend to %d bytes: %w: %w", t.ref, to, driver.ErrUnknown, err)
		}
		return t.folder.hook("done")
	})
}

// DeleteVolume removes the file.
func (d *Driver) DeleteVolume(ctx context.Context, call driver.Call, id driver.VolumeID) error {
	return d.locked(ctx, call, id.Ref(), task.remove)
}

// DeleteSnapshot removes the file.
func (d *Driver) DeleteSnapshot(ctx context.Context, call driver.Call, snap driver.Snapshot) error {
	return d.locked(ctx, call, snap.ID.Ref(), task.remove)
}

// RaiseFence takes the lock and lets it go: after that every lower fence is refused, and who held the lock is gone.
func (d *Driver) RaiseFence(ctx context.Context, call driver.Call, ref driver.Ref) error {
	return d.locked(ctx, call, ref, func(t task) error { return t.folder.hook("done") })
}

// task is one call that writes one thing, while it holds the thing's lock.
type task struct {
	d      *Driver
	ctx    context.Context // of the call; a task does not outlive it
	call   driver.Call
	ref    driver.Ref
	folder folder
	lock   lock.Held
}

// locked runs do with the lock of the thing.
func (d *Driver) locked(ctx context.Context, call driver.Call, ref driver.Ref, do func(task) error) (err error) {
	if err := errors.Join(call.Check(), ref.Check()); err != nil {
		return err
	}
	if err := d.here(); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	held, err := d.locks.Acquire(ctx, lockName(ref), lock.Claim{Fence: call.Fence, Operation: call.Operation, Waiting: call.Waiting})
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	return do(task{d: d, ctx: ctx, call: call, ref: ref, folder: d.folder(ref.Kind), lock: held})
}

// proceed returns an error if the task should not go on.
func (t task) proceed() error {
	if err := t.ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", t.ref, context.Cause(t.ctx))
	}
	return t.lock.Overtaken()
}

// ready is called before the first effect that can be seen.
func (t task) ready() error {
	if err := t.proceed(); err != nil {
		return err
	}
	if err := t.d.here(); err != nil {
		return fmt.Errorf("%s: %w", t.ref, err)
	}
	return t.lock.Durable()
}

// createOnce builds the thing unless it is there already.
func (t task) createOnce(bytes int64, fill func(tmp *os.File) error) error {
	st, err := t.folder.stat(t.ref.ID)
	if errors.Is(err, driver.ErrNotFound) {
		return t.build(bytes, fill)
	}
	if err != nil {
		return err
	}
	if st.Size != bytes {
		return fmt.Errorf("%s has %d bytes, create with %d: %w", t.ref, st.Size, bytes, driver.ErrExists)
	}
	// An earlier call may have been cut off between the rename and the sync.
	return t.folder.sync()
}

// build makes the thing under a temporary name and puts it in its place, over what is there.
func (t task) build(bytes int64, fill func(tmp *os.File) error) (err error) {
	name := tempName(t.call.Operation, t.ref.ID)
	tmp, err := t.folder.create(name)
	if err != nil {
		return fmt.Errorf("%s: %w", t.ref, space(err))
	}
	placed := false
	defer func() {
		err = errors.Join(err, tmp.Close())
		if !placed {
			_, removing := t.folder.remove(name)
			err = errors.Join(err, removing)
		}
	}()
	if err := fill(tmp); err != nil {
		return err
	}
	if err := t.folder.truncate(tmp, bytes); err != nil {
		return fmt.Errorf("%s: size %d bytes: %w", t.ref, bytes, space(err))
	}
	if err := t.folder.syncFile(tmp); err != nil {
		return fmt.Errorf("%s: %w", t.ref, space(err))
	}
	if err := t.ready(); err != nil {
		return err
	}
	if err := t.folder.rename(name, t.ref.ID); err != nil {
		return fmt.Errorf("%s: %w", t.ref, space(err))
	}
	placed = true
	if err := t.folder.sync(); err != nil {
		return err
	}
	return t.folder.hook("done")
}

// remove removes the thing and what the same operation left of it. The thing goes last, so that an error before leaves
// all as it was.
func (t task) remove() error {
	if err := t.ready(); err != nil {
		return err
	}
	if err := t.lock.Touch(); err != nil { // the time after which the lock file may go begins now
		return fmt.Errorf("%s: %w", t.ref, err)
	}
	for _, name := range []string{tempName(t.call.Operation, t.ref.ID), t.ref.ID} {
		if _, err := t.folder.remove(name); err != nil {
			return fmt.Errorf("%s: %w", t.ref, space(err))
		}
	}
	if err := t.folder.sync(); err != nil {
		return err
	}
	return t.folder.hook("done")
}
