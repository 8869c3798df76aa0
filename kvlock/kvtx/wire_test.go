package kvtx_test

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// proxy stands between a client and the server and cuts connections at the worst moment.
type proxy struct {
	listener net.Listener
	server   string

	// cutRequest cuts before the server gets a request that contains the word, cutAnswer after the server has
	// answered with it; each once.
	cutRequest, cutAnswer atomic.Pointer[string]
	met                   atomic.Int32
	conns                 sync.Map
}

func newProxy(t *testing.T, serverURL string) *proxy {
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: u.Host}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cutAll()
		wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

func (p *proxy) cutAll() {
	p.conns.Range(func(conn, _ any) bool {
		_ = conn.(net.Conn).Close()
		return true
	})
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		_ = client.Close()
		return
	}
	p.conns.Store(client, nil)
	p.conns.Store(server, nil)
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(server, client, &p.cutRequest) })
	wg.Go(func() { p.copy(client, server, &p.cutAnswer) })
	wg.Wait()
	p.conns.Delete(client)
	p.conns.Delete(server)
}

// copy forwards until one side ends, or until the word comes by: that is not forwarded any more.
func (p *proxy) copy(to, from net.Conn, cut *atomic.Pointer[string]) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if word := cut.Load(); word != nil && bytes.Contains(buf[:n], []byte(*word)) && cut.CompareAndSwap(word, nil) {
			p.met.Add(1)
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestCutConnectionIsDecided cuts the connection before the server has read a commit, and after it has answered it.
func TestCutConnectionIsDecided(t *testing.T) {
	t.Parallel()
	for _, messages := range []int{1, 4} {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("messages=%d/applied=%v", messages, applied), func(t *testing.T) {
				t.Parallel()
				srv := serve(t)
				p := newProxy(t, srv.ClientURL())
				// A broken connection is noticed, not waited out.
				s, other := open(t, p.url(), kvtx.WithAckTimeout(time.Hour)), open(t, srv.ClientURL())
				keys := []string{"k.0"}
				for i := 1; i < messages; i++ {
					keys = append(keys, "k."+strconv.Itoa(i))
				}
				for round := range 3 {
					cut, word := &p.cutRequest, "HPUB $KV.scoria.k.0"
					if applied {
						cut, word = &p.cutAnswer, `"stream":"KV_scoria"`
					}
					cut.Store(&word)
					r, err := s.Update(ctx(t), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, keys) })
					if err != nil {
						t.Fatal(err)
					}
					if n := p.met.Load(); int(n) != round+1 {
						t.Fatalf("round %d: the connection was cut %d times", round, n)
					}
					for _, key := range keys {
						if e := get(t, other, key); number(e) != round+1 || e.Revision != r.Revision(key) {
							t.Errorf("round %d: %s = %s at %d, want %d at %d", round, key, e.Value, e.Revision, round+1, r.Revision(key))
						}
					}
				}
			})
		}
	}
}

// TestCommitsGoOnOverKilledServer stops the server in the middle of commits and starts it again on the same files.
func TestCommitsGoOnOverKilledServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := startServer(t, dir, -1)
	port := srv.Addr().(*net.TCPAddr).Port
	s := open(t, srv.ClientURL())
	const workers, rounds = 8, 40
	var done atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			keys := []string{"counter", fmt.Sprintf("own.%d", w)}
			if w == 0 {
				keys = keys[1:]
			}
			for range rounds {
				if _, err := s.Update(ctx(t), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, keys) }); err != nil {
					t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	for _, at := range []int64{40, 120, 200} {
		until(t, func() bool { return done.Load() >= at })
		srv.Shutdown()
		srv.WaitForShutdown()
		srv = startServer(t, dir, port)
	}
	wg.Wait()
	if e := get(t, s, "counter"); number(e) != (workers-1)*rounds {
		t.Errorf("counter = %s, want %d", e.Value, (workers-1)*rounds)
	}
	for w := range workers {
		if e := get(t, s, fmt.Sprintf("own.%d", w)); number(e) != rounds {
			t.Errorf("%s = %s, want %d", e.Key, e.Value, rounds)
		}
	}
	_ = s.Close()
	srv.Shutdown()
	srv.WaitForShutdown()
}

// TestCommitThatWaitedTooLongIsDecidedAnew: what it read is older than a delete marker could hide.
func TestCommitThatWaitedTooLongIsDecidedAnew(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{{"k.a"}, {"k.a", "k.b"}} {
		t.Run(fmt.Sprint(len(keys)), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			srv := startServer(t, dir, -1)
			port := srv.Addr().(*net.TCPAddr).Port
			const fresh = 500 * time.Millisecond
			var f faults
			s := open(t, srv.ClientURL(), kvtx.WithFresh(fresh), f.option())
			for _, key := range keys {
				get(t, s, key)
			}
			srv.Shutdown()
			srv.WaitForShutdown()
			until(t, func() bool { return !s.Conn().IsConnected() })
			var runs atomic.Int32
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := s.Update(ctx(t), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
					runs.Add(1)
					return incrementAll(snap, tx, keys)
				})
				if err != nil {
					t.Error(err)
				}
			})
			until(t, func() bool { return runs.Load() == 1 })
			begin := time.Now()
			until(t, func() bool { return time.Since(begin) > fresh })
			srv = startServer(t, dir, port)
			wg.Wait()
			if n := runs.Load(); n < 2 {
				t.Errorf("the function ran %d times, want at least 2", n)
			}
			if e := get(t, s, "k.a"); number(e) != 1 {
				t.Errorf("k.a = %s, want 1", e.Value)
			}
			_ = s.Close()
			srv.Shutdown()
			srv.WaitForShutdown()
		})
	}
}

func TestReadWaitsForTheServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := startServer(t, dir, -1)
	port := srv.Addr().(*net.TCPAddr).Port
	s := open(t, srv.ClientURL())
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0) })
	srv.Shutdown()
	srv.WaitForShutdown()
	var wg sync.WaitGroup
	wg.Go(func() {
		if e, err := s.Get(ctx(t), "k.a"); err != nil || string(e.Value) != "1" {
			t.Errorf("Get = %s, %v", e.Value, err)
		}
	})
	srv = startServer(t, dir, port)
	wg.Wait()
	_ = s.Close()
	srv.Shutdown()
	srv.WaitForShutdown()
}

func TestErrorsAreSentences(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{&kvtx.ConflictError{Keys: []string{"a", "b"}}, "changed by others: a, b"},
		{&kvtx.ConflictError{}, "another one in flight"},
		{&kvtx.StreamError{Stream: "KV_x", Field: "allow_atomic", Got: "false", Want: "true"}, "stream KV_x: allow_atomic is false, must be true"},
	} {
		if got := c.err.Error(); !strings.Contains(got, c.want) {
			t.Errorf("Error() = %q, want %q in it", got, c.want)
		}
	}
}
