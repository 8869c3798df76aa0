package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cloneCase    = "clone-10g"
	cloneGiB     = 10
	writtenBytes = 2560 << 20
	chunk        = 8 << 20
	cloneRounds  = 15
)

// Data measures create-from-snapshot of 10 GiB with 2.5 GiB written, from the request to available, against the bare
// reflink with its fsyncs in the same directory. The directory of the file backend must be on a file system with reflink.
func Data(ctx context.Context, t Target, dir string, l Length, progress func(string)) (rows []Row, err error) {
	call, err := newCaller(t.Endpoint, 1)
	if err != nil {
		return nil, err
	}
	defer call.close()
	f := newFloors(t.Store, l.Floor)
	defer func() { err = errors.Join(err, f.close(ctx)) }()
	if t.Remove {
		defer func() { err = errors.Join(err, call.remove(ctx, progress)) }()
	}
	defer func() { err = because(ctx, err) }()
	progress("write 2.5 GiB into a volume of 10 GiB")
	source, operation, err := call.create(ctx, fmt.Sprintf(`"size":%d`, cloneGiB))
	if err != nil {
		return nil, err
	}
	if err := call.ended(ctx, operation); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "volumes", source)
	if err := writeSome(path); err != nil {
		return nil, err
	}
	snapshot, err := snap(ctx, call, source)
	if err != nil {
		return nil, err
	}
	progress("clone, and the bare reflink in turn")
	var clones, bare []time.Duration
	for i := range cloneRounds {
		took, err := timed(func() error { return cloneOnce(ctx, call, snapshot) })
		if err != nil {
			return nil, err
		}
		clones = append(clones, took)
		copied := filepath.Join(dir, fmt.Sprintf("%s-%d", call.name, i))
		took, err = timed(func() error { return bareReflink(path, copied) })
		if err = errors.Join(err, removeFiles(copied, copied+temporary)); err != nil {
			return nil, err
		}
		bare = append(bare, took)
	}
	rows = []Row{rowOf(cloneCase, clones), rowOf("bare-reflink-10g", bare)}
	if f == nil {
		return rows, nil
	}
	batch, err := f.batch(ctx, 4)
	if err != nil {
		return rows, err
	}
	aim := rows[1].P50 + 6*batch.P50
	rows[0].Floor = round(1000 / aim)
	rows[0].Note = fmt.Sprintf("the aim is the bare reflink + 6 × batch-4 = %.1f ms; p50 is %.1f ms", aim, rows[0].P50)
	batch.Floor = batch.Ops
	return append(rows, batch), nil
}

func timed(do func() error) (time.Duration, error) {
	start := time.Now()
	err := do()
	return time.Since(start), err
}

func rowOf(name string, took []time.Duration) Row {
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	slices.Sort(took)
	return row(name, 1, sum, took)
}

func snap(ctx context.Context, call *caller, volume string) (string, error) {
	body := fmt.Sprintf(`{"snapshot":{"volume_id":%q,"name":%q}}`, volume, call.name)
	data, header, err := call.do(ctx, http.MethodPost, "/v3/"+project+"/snapshots", []byte(body))
	if err != nil {
		return "", err
	}
	var out struct{ Snapshot struct{ ID string } }
	if err := json.Unmarshal(data, &out); err != nil {
		return "", err
	}
	return out.Snapshot.ID, call.ended(ctx, header.Get(headerOperation))
}

func cloneOnce(ctx context.Context, call *caller, snapshot string) error {
	_, operation, err := call.create(ctx, fmt.Sprintf(`"size":%d,"snapshot_id":%q`, cloneGiB, snapshot))
	if err != nil {
		return err
	}
	return call.ended(ctx, operation)
}

// writeSome writes 2.5 GiB in chunks that are spread over the volume.
func writeSome(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, chunk)
	for i := range buf {
		buf[i] = byte(i*7 + i>>8)
	}
	count := int64(writtenBytes / chunk)
	stride := int64(cloneGiB) << 30 / count
	for i := range count {
		buf[0] = byte(i)
		if _, err := f.WriteAt(buf, i*stride); err != nil {
			return err
		}
	}
	return f.Sync()
}

// temporary ends the name of a file that is being made.
const temporary = ".tmp"

// removeFiles removes those of the files that are there.
func removeFiles(paths ...string) error {
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// bareReflink is the least that a durable clone takes: reflink, sync of the file, rename, sync of the folder.
func bareReflink(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	tmp := to + temporary
	dst, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		return fmt.Errorf("reflink in %s: %w: the file system must be XFS with reflink, or btrfs", filepath.Dir(to), err)
	}
	if err := dst.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
