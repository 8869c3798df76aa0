package nbd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/export/nbd"
	"github.com/scoria-storage/scoria/volume-node/export/nbd/nbdtest"
)

// memory is a device that a fuzzed client may do anything to.
type memory struct {
	t        testing.TB
	data     []byte
	readOnly bool
}

func (m *memory) Size() int64    { return int64(len(m.data)) }
func (m *memory) ReadOnly() bool { return m.readOnly }
func (m *memory) Sync() error    { return nil }

func (m *memory) at(off, n int64, change bool) {
	if off < 0 || n < 0 || off > m.Size() || n > m.Size()-off {
		m.t.Errorf("%d bytes at %d reached a device of %d bytes", n, off, m.Size())
	}
	if change && m.readOnly {
		m.t.Error("a change reached a read-only device")
	}
}

func (m *memory) ReadAt(_ []byte, _ int64) error { return nil }

func (m *memory) TryReadAt(p []byte, off int64) bool {
	m.at(off, int64(len(p)), false)
	return off%2 == 0
}

func (m *memory) WriteAt(_ context.Context, p []byte, off int64) error {
	m.at(off, int64(len(p)), true)
	return nil
}

func (m *memory) Trim(_ context.Context, off, n int64) error {
	m.at(off, n, true)
	return nil
}

func (m *memory) WriteZeroes(_ context.Context, off, n int64, _, _ bool) error {
	m.at(off, n, true)
	return nil
}

func (m *memory) Extents(off, n int64, yield func(int64, bool) bool) {
	m.at(off, n, false)
	yield(n/2, true) // may be nothing
}

func (m *memory) Prefetch(off, n int64) { m.at(off, n, false) }

// FuzzClient lets a client send anything: the server must end the connection, never panic, and never let a request past the
// end or the mode of the device.
func FuzzClient(f *testing.F) {
	hello := "\x00\x00\x00\x03"
	meta := "\x00\x00\x00\x04disk\x00\x00\x00\x01\x00\x00\x00\x0fbase:allocation"
	open := hello + string(nbdtest.OptionBytes(8, nil)) + string(nbdtest.OptionBytes(10, []byte(meta))) +
		string(nbdtest.OptionBytes(7, []byte("\x00\x00\x00\x04disk\x00\x02\x00\x03\x00\x01")))
	request := func(flags, command uint16, offset uint64, length uint32) string {
		return string(nbdtest.RequestBytes(flags, command, 7, offset, length))
	}
	for _, seed := range []string{
		"", hello, hello + string(nbdtest.OptionBytes(3, nil)), hello + string(nbdtest.OptionBytes(2, nil)),
		hello + string(nbdtest.OptionBytes(6, []byte("\x00\x00\x00\x04disk\x00\x00"))) + string(nbdtest.OptionBytes(5, nil)),
		hello + string(nbdtest.OptionBytes(9, []byte(meta))),
		"\x00\x00\x00\x00" + string(nbdtest.OptionBytes(1, []byte("disk"))) + request(0, 0, 0, 100),
		open + request(0, nbdtest.Read, 0, 4096) + request(4, nbdtest.Read, 1, 65537) + request(0, nbdtest.Read, 1<<63, 1),
		open + request(1, nbdtest.Write, 10, 5) + "hello" + request(0, nbdtest.Disconnect, 0, 0),
		open + request(0, nbdtest.Write, 1<<40, 5) + "hello" + request(0, nbdtest.Flush, 9, 9),
		open + request(0, nbdtest.Trim, 0, 0xffffffff) + request(3, nbdtest.WriteZeroes, 5, 5) + request(16, nbdtest.WriteZeroes, 0, 0),
		open + request(8, nbdtest.BlockStatus, 0, 65536) + request(0, nbdtest.BlockStatus, 0, 1) + request(0, nbdtest.Cache, 0, 1),
		open + request(0xffff, 0xffff, 1<<63, 0xffffffff),
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, input []byte, readOnly bool) {
		s := nbd.NewServer(nbd.Config{})
		d := &memory{t: t, data: make([]byte, 1<<17), readOnly: readOnly}
		if err := s.Add(nbd.Export{Name: "disk", Open: func() (nbd.Device, error) { return d, nil }}); err != nil {
			t.Fatal(err)
		}
		ours, theirs := socketPair(t)
		s.Admit(theirs)
		go func() { // the server may go at any byte
			_, _ = ours.Write(input)
			_ = ours.CloseWrite()
		}()
		_ = ours.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, ours); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
		_ = ours.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// socketPair is two ends of a connection without a listener.
func socketPair(t testing.TB) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}
