package ctl

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Paths are the files of the export server of one state directory.
type Paths struct {
	State   string // absolute
	NBD     string // the socket that hosts connect to
	Control string // the socket that volume nodes connect to
	Lock    string // held by the server while it lives; has its process ID
	Starter string // locked by whoever is starting a server
	Table   string // directory of what is exported
	Log     string // what the server prints
}

// longestSocket is the length of a socket's path that the kernel takes (sockaddr_un, less the zero at its end), less room
// for the suffix under which it is made.
const longestSocket = 107 - len(newSuffix)

const newSuffix = ".new"

// sockets is what a server remembers about where its sockets are, if they are not in the state directory.
type sockets struct {
	Version int    `json:"version"`
	NBD     string `json:"nbd"`
	Control string `json:"control"`
}

// Find returns where things are for a state directory. The sockets are in it if their paths are short enough. Otherwise the
// first server picks a short directory and remembers it, so that the paths stay the same whatever the environment of
// later processes; until then Find answers as a server started now would.
func Find(state string) (Paths, error) {
	abs, err := filepath.Abs(state)
	if err != nil {
		return Paths{}, fmt.Errorf("state directory %q: %w", state, err)
	}
	p := Paths{
		State:   abs,
		NBD:     filepath.Join(abs, "nbd.sock"),
		Control: filepath.Join(abs, "export.ctl"),
		Lock:    filepath.Join(abs, "export.lock"),
		Starter: filepath.Join(abs, "export.start"),
		Table:   filepath.Join(abs, "exports"),
		Log:     filepath.Join(abs, "export.log"),
	}
	if max(len(p.NBD), len(p.Control)) <= longestSocket {
		return p, nil
	}
	data, err := os.ReadFile(p.remembered())
	if errors.Is(err, fs.ErrNotExist) {
		sum := sha256.Sum256([]byte(abs))
		base := filepath.Join(shortDir(), hex.EncodeToString(sum[:8]))
		p.NBD, p.Control = base+".nbd", base+".ctl"
		return p, nil
	}
	if err != nil {
		return Paths{}, err
	}
	var s sockets
	if err := json.Unmarshal(data, &s); err != nil || s.Version != Version || s.NBD == "" || s.Control == "" {
		return Paths{}, fmt.Errorf("%s is damaged or of a newer release (%s); remove it while no host is attached", p.remembered(), data)
	}
	p.NBD, p.Control = s.NBD, s.Control
	return p, nil
}

func (p Paths) remembered() string { return filepath.Join(p.State, "export.sockets") }

// shortDir is a directory for sockets of this user whose path is short.
func shortDir() string {
	uid := os.Geteuid()
	if uid == 0 {
		return "/run/scoria"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) && len(dir) < 64 {
		return filepath.Join(dir, "scoria")
	}
	name := "scoria-" + strconv.Itoa(uid)
	if dir := os.TempDir(); filepath.IsAbs(dir) && len(dir) < 64 {
		return filepath.Join(dir, name)
	}
	return filepath.Join("/tmp", name)
}

// Prepare makes the directories of the sockets and remembers them. Only the server calls it, under its lock.
func (p Paths) Prepare() error {
	dir := filepath.Dir(p.NBD)
	if dir == p.State {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory for sockets, since %s is too long a path for them: %w", p.State, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	// Others could have made a directory of this name in a place that all may write to.
	if st, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || info.Mode().Perm()&0o022 != 0 || !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a directory that only this user may write to (%v); remove it or choose a state directory with a shorter path", dir, info.Mode())
	}
	if _, err := os.Stat(p.remembered()); err == nil {
		return nil
	}
	data, err := json.Marshal(sockets{Version: Version, NBD: p.NBD, Control: p.Control})
	if err != nil {
		return err
	}
	tmp := p.remembered() + newSuffix
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, p.remembered())
}

// NewName is the path under which a socket is made before it gets its name, so that nobody connects before it is ready.
func NewName(socket string) string { return socket + newSuffix }
