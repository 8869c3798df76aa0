package nbd_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/export/nbd"
	"github.com/scoria-storage/scoria/volume-node/export/nbd/nbdtest"
)

func TestReadReturnsWhatWasWritten(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]nbdtest.Option{
		"structured": nil,
		"simple":     {nbdtest.Simple()},
		"old name":   {nbdtest.Simple(), nbdtest.OldName()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, 40*mib, false)
			c := b.dial(t, opts...)
			if c.Size != 40*mib {
				t.Errorf("size %d, want %d", c.Size, 40*mib)
			}
			for _, n := range []int{0, 1, 512, 4096, 4097, 65536, 70000, mib, nbd.MaxRequest} {
				data := make([]byte, n)
				for i := range data {
					data[i] = byte(i*7 + n)
				}
				want(t, fmt.Sprint("write ", n), c.WriteAt(data, 4321), nil)
				got := make([]byte, n)
				want(t, fmt.Sprint("read ", n), c.ReadAt(got, 4321), nil)
				if !bytes.Equal(got, data) {
					t.Errorf("read of %d bytes differs from what was written", n)
				}
			}
			want(t, "disconnect", c.Disconnect(), nil)
		})
	}
}

func TestRequestsBeyondTheEndAreRefused(t *testing.T) {
	t.Parallel()
	b := start(t, mib, false)
	c := b.dial(t)
	p := make([]byte, 4096)
	want(t, "read across the end", c.ReadAt(p, mib-1), syscall.EINVAL)
	want(t, "read far away", c.ReadAt(p, -1), syscall.EINVAL) // 2^64-1 on the wire
	want(t, "write across the end", c.WriteAt(p, mib-4095), syscall.ENOSPC)
	want(t, "write far away", c.WriteAt(p, -4096), syscall.ENOSPC)
	want(t, "zero beyond the end", c.Do(nbdtest.WriteZeroes, 0, mib, 1, nil), syscall.ENOSPC)
	want(t, "trim beyond the end", c.Do(nbdtest.Trim, 0, 0, mib+1, nil), syscall.EINVAL)
	want(t, "last byte", c.WriteAt(p[:1], mib-1), nil)
	want(t, "too long a read", c.Do(nbdtest.Read, 0, 0, nbd.MaxRequest+1, nil), syscall.EINVAL)
	want(t, "too long a write", c.WriteAt(make([]byte, nbd.MaxRequest+1), 0), syscall.EINVAL)
	want(t, "unknown command", c.Do(99, 0, 0, 0, nil), syscall.EINVAL)
	want(t, "unknown flag", c.Do(nbdtest.Read, 1<<9, 0, 1, make([]byte, 1)), syscall.EINVAL)
	want(t, "read after all that", c.ReadAt(p, 0), nil)
	if info, err := os.Stat(b.path); err != nil || info.Size() != mib {
		t.Errorf("the file has %v bytes (%v), want %d", info.Size(), err, mib)
	}
}

func TestReadOnlyExportIsNeverChanged(t *testing.T) {
	t.Parallel()
	b := start(t, mib, true)
	c := b.dial(t)
	if c.Flags&nbdtest.ReadOnly == 0 {
		t.Errorf("flags %#x do not say read-only", c.Flags)
	}
	want(t, "write", c.WriteAt([]byte("x"), 0), syscall.EPERM)
	want(t, "trim", c.Do(nbdtest.Trim, 0, 0, 4096, nil), syscall.EPERM)
	want(t, "zeroes", c.Do(nbdtest.WriteZeroes, 0, 0, 4096, nil), syscall.EPERM)
	want(t, "flush", c.Flush(), nil)
	want(t, "read", c.ReadAt(make([]byte, 10), 0), nil)
}

func TestFlushAndFUAReturnAfterTheSync(t *testing.T) {
	t.Parallel()
	b := start(t, mib, false)
	c := b.dial(t)
	p := make([]byte, 4096)
	want(t, "write", c.WriteAt(p, 0), nil)
	if n := b.file.syncs.Load(); n != 0 {
		t.Errorf("a plain write synced %d times", n)
	}
	for i, do := range []struct {
		name string
		do   func() error
	}{
		{"flush", c.Flush},
		{"write with FUA", func() error { return c.Do(nbdtest.Write, nbdtest.FUA, 0, 4096, p) }},
		{"zeroes with FUA", func() error { return c.Do(nbdtest.WriteZeroes, nbdtest.FUA, 0, 4096, nil) }},
		{"trim with FUA", func() error { return c.Do(nbdtest.Trim, nbdtest.FUA, 0, 4096, nil) }},
	} {
		want(t, do.name, do.do(), nil)
		if n := b.file.syncs.Load(); n != int64(i+1) {
			t.Errorf("after %s: %d syncs, want %d", do.name, n, i+1)
		}
	}
}

// A flush on one connection that comes while a sync runs, after a write on another, must not be served by that sync.
func TestFlushCoversWritesOfOtherConnections(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}, 8), make(chan struct{})
	b := start(t, mib, false, func(w *watched) {
		w.onSync = func() error {
			begun <- struct{}{}
			<-goOn
			return nil
		}
	})
	one, two := b.dial(t), b.dial(t)
	if one.Flags&nbdtest.MultiConn == 0 {
		t.Errorf("flags %#x do not allow several connections", one.Flags)
	}
	first := make(chan error, 1)
	go func() { first <- one.Flush() }()
	<-begun
	want(t, "write during a sync", two.WriteAt([]byte("late"), 0), nil)
	second := make(chan error, 1)
	go func() { second <- one.Flush() }()
	goOn <- struct{}{} // the first sync ends
	want(t, "first flush", <-first, nil)
	<-begun // the second flush has one of its own
	select {
	case err := <-second:
		t.Errorf("flush returned (%v) before a sync that covers the write", err)
	default:
	}
	close(goOn)
	want(t, "second flush", <-second, nil)
}

func TestFailedSyncIsNeverForgotten(t *testing.T) {
	t.Parallel()
	fail := true
	b := start(t, mib, false, func(w *watched) {
		w.onSync = func() error {
			if fail {
				fail = false
				return syscall.ENOSPC
			}
			return nil
		}
	})
	one, two := b.dial(t), b.dial(t)
	want(t, "write with FUA", one.Do(nbdtest.Write, nbdtest.FUA, 0, 1, []byte("x")), syscall.ENOSPC)
	want(t, "flush of another connection", two.Flush(), syscall.ENOSPC)
}

func TestZeroesAndTrim(t *testing.T) {
	t.Parallel()
	b := start(t, 8*mib, false)
	c := b.dial(t)
	full := bytes.Repeat([]byte{0xab}, 8*mib)
	for _, flags := range []uint16{0, nbdtest.NoHole, nbdtest.NoHole | nbdtest.FUA} {
		want(t, "write", c.WriteAt(full, 0), nil)
		want(t, "zeroes", c.Do(nbdtest.WriteZeroes, flags, 1000, 3*mib, nil), nil)
		got := make([]byte, 8*mib)
		want(t, "read", c.ReadAt(got, 0), nil)
		expect := bytes.Clone(full)
		clear(expect[1000 : 1000+3*mib])
		if !bytes.Equal(got, expect) {
			t.Errorf("wrong content after zeroes with flags %#x", flags)
		}
	}
	want(t, "trim", c.Do(nbdtest.Trim, 0, 4*mib, 2*mib, nil), nil)
	want(t, "cache", c.Do(nbdtest.Cache, 0, 0, mib, nil), nil)
	rest := make([]byte, 2*mib)
	want(t, "read", c.ReadAt(rest, 6*mib), nil)
	if !bytes.Equal(rest, full[:2*mib]) {
		t.Error("trim changed what lies behind it")
	}
}

func TestBlockStatusTellsHolesFromData(t *testing.T) {
	t.Parallel()
	b := start(t, 8*mib, false)
	c := b.dial(t)
	want(t, "write", c.WriteAt(bytes.Repeat([]byte{1}, mib), 2*mib), nil)
	got, err := c.Extents(0, 0, 8*mib)
	want(t, "block status", err, nil)
	expect := []nbdtest.Extent{{Bytes: 2 * mib, State: 3}, {Bytes: mib}, {Bytes: 5 * mib, State: 3}}
	if fmt.Sprint(got) != fmt.Sprint(expect) {
		t.Errorf("extents %v, want %v", got, expect)
	}
	got, err = c.Extents(nbdtest.ReqOne, mib, 6*mib)
	want(t, "block status of one", err, nil)
	if fmt.Sprint(got) != fmt.Sprint([]nbdtest.Extent{{Bytes: mib, State: 3}}) {
		t.Errorf("extents %v, want one hole of 1 MiB", got)
	}
	_, err = c.Extents(0, 7*mib, 2*mib)
	want(t, "block status beyond the end", err, syscall.EINVAL)
	_, err = b.dial(t, nbdtest.Simple()).Extents(0, 0, 1)
	want(t, "block status without negotiation", err, syscall.EINVAL)
}

func TestCutEndsAllBeforeItReturns(t *testing.T) {
	t.Parallel()
	inside, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b := start(t, mib, false, func(w *watched) {
		w.onIO = func() {
			once.Do(func() { close(inside); <-goOn })
		}
	})
	c := b.dial(t)
	go func() { _ = c.WriteAt(make([]byte, 4096), 0) }()
	<-inside
	cut := make(chan error, 1)
	go func() { cut <- b.server.Cut(t.Context(), "disk") }()
	eventually(t, "nobody new gets in", func() bool {
		late, err := nbdtest.Dial(b.socket, "disk")
		if err == nil {
			_ = late.Close()
		}
		return err != nil
	})
	select {
	case err := <-cut:
		t.Fatalf("Cut returned (%v) while a write was inside", err)
	default:
	}
	close(goOn)
	want(t, "cut", <-cut, nil)
	before := b.file.writes.Load()
	<-c.Ended()
	if err := c.WriteAt(make([]byte, 4096), 0); err == nil {
		t.Error("a write after the cut succeeded")
	}
	if after := b.file.writes.Load(); after != before {
		t.Errorf("%d writes reached the file after the cut", after-before)
	}
	b.add(t, "disk")
	want(t, "write after a new export", b.dial(t).WriteAt([]byte("x"), 0), nil)
}

func TestCutEndsRequestsThatAreHeld(t *testing.T) {
	t.Parallel()
	b := start(t, mib, false)
	want(t, "hold", b.gate.Close(t.Context()), nil)
	defer b.gate.Open()
	c := b.dial(t)
	answers := make(chan error, 30)
	for range cap(answers) { // more than there are workers
		go func() { answers <- c.WriteAt(make([]byte, 4096), 0) }()
	}
	for range 100 {
		want(t, "a read that passes the writes that are held", c.ReadAt(make([]byte, 1), 0), nil)
	}
	want(t, "a flush that passes them", c.Flush(), nil)
	want(t, "cut", b.server.Cut(t.Context(), "disk"), nil)
	for range cap(answers) {
		if err := <-answers; err == nil {
			t.Error("a held write succeeded")
		}
	}
	if n := b.file.writes.Load(); n != 0 {
		t.Errorf("%d writes reached a held file", n)
	}
}

func TestClientThatReadsNoAnswersIsCutOff(t *testing.T) {
	t.Parallel()
	b := start(t, 64*mib, false)
	c := b.dial(t)
	other := b.dial(t)
	for i := range uint64(600) { // as many as the sockets take; the client that reads them is not asked
		p := nbdtest.RequestBytes(0, nbdtest.Read, 1<<40+i, 0, mib)
		_ = c.Conn().SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.Conn().Write(p); err != nil {
			break
		}
	}
	want(t, "another client", other.ReadAt(make([]byte, 10), 0), nil)
	want(t, "cut", b.server.Cut(t.Context(), "disk"), nil)
}

func TestBadInputEndsOnlyItsOwnConnection(t *testing.T) {
	t.Parallel()
	b := start(t, mib, false)
	good := b.dial(t)
	hello := []byte{0, 0, 0, 3}
	use := append(bytes.Clone(hello), nbdtest.OptionBytes(1, []byte("disk"))...)
	for name, input := range map[string][]byte{
		"nothing":              nil,
		"text":                 []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n" + strings.Repeat("x", 100)),
		"unknown client flags": {0xff, 0xff, 0xff, 0xff},
		"option of 4 GiB":      append(bytes.Clone(hello), "IHAVEOPT\x00\x00\x00\x07\xff\xff\xff\xff"...),
		"name beyond its end":  append(bytes.Clone(hello), nbdtest.OptionBytes(7, []byte("\xff\xff\xff\xffdisk\x00\x00"))...),
		"unknown name":         append(bytes.Clone(hello), nbdtest.OptionBytes(1, []byte("other"))...),
		"half a request":       append(bytes.Clone(use), nbdtest.RequestBytes(0, 0, 1, 0, 1)[:20]...),
		"no request":           append(bytes.Clone(use), bytes.Repeat([]byte{0x55}, 28)...),
		"write without data":   append(bytes.Clone(use), nbdtest.RequestBytes(0, 1, 1, 0, 4096)...),
		"write of 4 GiB":       append(bytes.Clone(use), nbdtest.RequestBytes(0, 1, 1, 0, 0xffffffff)...),
	} {
		nc, err := net.Dial("unix", b.socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write(input)
		_ = nc.(*net.UnixConn).CloseWrite()
		_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
		_ = nc.Close()
		want(t, "another client after "+name, good.ReadAt(make([]byte, 100), 0), nil)
	}
}

func TestHandshakeTellsWhyItRefuses(t *testing.T) {
	t.Parallel()
	b := start(t, mib, false)
	_, err := nbdtest.Dial(b.socket, "other", nbdtest.Simple())
	var refused *nbdtest.OptionError
	if !errors.As(err, &refused) || refused.Kind != 1<<31+6 {
		t.Errorf("unknown export: %v, want the protocol's ERR_UNKNOWN", err)
	}
	err = b.server.Add(nbd.Export{Name: "broken", Open: func() (nbd.Device, error) { return nil, errors.New("the file is gone") }})
	want(t, "add", err, nil)
	_, err = nbdtest.Dial(b.socket, "broken", nbdtest.Simple())
	if err == nil || !strings.Contains(err.Error(), "the file is gone") {
		t.Errorf("broken export: %v, want the reason", err)
	}
	want(t, "add twice", b.server.Add(nbd.Export{Name: "broken"}), nbd.ErrExists)
}

// Several connections write random ranges, each in an area of its own, and read all the time. In the end, and after each
// read, the content equals a model.
func TestRandomRequestsEqualAModel(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const lanes, area, rounds = 6, 256 << 10, 300
	b := start(t, lanes*area, false)
	model := make([]byte, lanes*area)
	var all sync.WaitGroup
	for lane := range lanes {
		var opts []nbdtest.Option
		if lane%2 == 1 {
			opts = append(opts, nbdtest.Simple())
		}
		c := b.dial(t, opts...)
		rnd := rand.New(rand.NewPCG(seed, uint64(lane)))
		mine := model[lane*area : (lane+1)*area]
		all.Go(func() {
			for i := range rounds {
				step(t, c, rnd, mine, int64(lane*area), i)
			}
			want(t, "flush", c.Flush(), nil)
		})
	}
	all.Wait()
	file, err := os.ReadFile(b.path)
	want(t, "read the file", err, nil)
	if !bytes.Equal(file, model) {
		t.Error("the file differs from the model")
	}
}

// step does a few requests on parts of an area that do not overlap, all at once, and repeats them on the model.
func step(t *testing.T, c *nbdtest.Client, rnd *rand.Rand, mine []byte, base int64, round int) {
	const parts = 4
	size := len(mine) / parts
	var all sync.WaitGroup
	for part := range parts {
		start := part*size + rnd.IntN(size)
		n := rnd.IntN(part*size + size - start)
		p, off := mine[start:start+n], base+int64(start)
		flags := uint16(0)
		if rnd.IntN(20) == 0 {
			flags = nbdtest.FUA
		}
		switch kind := rnd.IntN(10); {
		case kind < 5:
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
			all.Go(func() {
				want(t, fmt.Sprint("write in round ", round), c.Do(nbdtest.Write, flags, off, uint32(n), p), nil)
			})
		case kind < 6:
			clear(p)
			all.Go(func() {
				want(t, fmt.Sprint("zeroes in round ", round), c.Do(nbdtest.WriteZeroes, flags, off, uint32(n), nil), nil)
			})
		default:
			all.Go(func() {
				got := make([]byte, n)
				want(t, fmt.Sprint("read in round ", round), c.ReadAt(got, off), nil)
				if !bytes.Equal(got, p) {
					t.Errorf("round %d: read of %d bytes at %d differs from the model", round, n, off)
				}
			})
		}
	}
	all.Wait()
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}
