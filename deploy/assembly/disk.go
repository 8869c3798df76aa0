package assembly

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
)

// fullBytes is when a disk is called full: a commit needs some hundred KiB beside the stream for a moment.
const fullBytes = 1 << 20

// watchEvery is how often the disk is looked at.
const watchEvery = 500 * time.Millisecond

// watchDisk says when the disk of the directory is full, in the log and as the reason why the process is not ready, until ctx ends. Nothing
// that was acknowledged is lost meanwhile: commits are refused by the server and made again until their callers give up. Where the server
// met the full disk while it wrote the stream itself, it keeps that error and only a new start helps (nats-server 2.15.2).
func watchDisk(ctx context.Context, dir string, full *readiness, log *slog.Logger) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) != nil {
			continue
		}
		free, was := fs.Bavail*uint64(fs.Bsize), full.get()
		switch {
		case free < fullBytes && was == nil:
			full.set(fmt.Sprintf("the disk of %s is full (%d KiB free): make room, then start again; nothing that was acknowledged is lost", dir, free>>10))
			log.ErrorContext(ctx, "storage is full", "error", full.get())
		case free >= fullBytes && was != nil:
			full.set("")
			log.InfoContext(ctx, "storage has room again", "path", dir)
		}
	}
}
