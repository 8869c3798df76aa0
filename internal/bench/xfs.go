package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// imageBytes is the size of the sparse image: two volumes of 10 GiB and some room, of which 2.5 GiB are written.
const imageBytes = 24 << 30

// TemporaryXFS makes an XFS with reflink in an image file below dir and mounts it. The function returned unmounts and removes it. Only root can, and it
// needs Debian's xfsprogs.
func TemporaryXFS(ctx context.Context, dir string) (string, func() error, error) {
	const advice = "; give --dir on XFS with reflink or btrfs, or run it as root with Debian's package xfsprogs"
	if os.Geteuid() != 0 {
		return "", nil, errors.New("only root can mount a file system for this bench" + advice)
	}
	if _, err := exec.LookPath("mkfs.xfs"); err != nil {
		return "", nil, fmt.Errorf("%w%s", err, advice)
	}
	base, err := os.MkdirTemp(dir, "scoria-xfs-")
	if err != nil {
		return "", nil, err
	}
	image, mount := filepath.Join(base, "image"), filepath.Join(base, "mnt")
	remove := func() error { return os.RemoveAll(base) }
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, imageBytes), os.Mkdir(mount, 0o700)); err != nil {
		return "", nil, errors.Join(err, remove())
	}
	if _, err := run(ctx, "mkfs.xfs", "-q", "-m", "reflink=1", image); err != nil {
		return "", nil, errors.Join(err, remove())
	}
	loop, err := run(ctx, "losetup", "-f", "--show", "--direct-io=on", image)
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	detach := func() error {
		_, err := run(context.WithoutCancel(ctx), "losetup", "-d", loop)
		return errors.Join(err, remove())
	}
	if _, err := run(ctx, "mount", loop, mount); err != nil {
		return "", nil, errors.Join(err, detach())
	}
	return mount, func() error {
		_, err := run(context.WithoutCancel(ctx), "umount", mount)
		return errors.Join(err, detach())
	}, nil
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return text, nil
}
