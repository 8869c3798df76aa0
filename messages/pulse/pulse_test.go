package pulse

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
)

// wire carries connections to a server. It can be frozen, as a server is that was stopped, and cut.
type wire struct {
	t        *testing.T
	to       string
	listener net.Listener

	mu     sync.Mutex
	goOn   *sync.Cond
	frozen bool
	broken bool // nobody is let in
	ends   []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, to: strings.TrimPrefix(to, "nats://"), listener: l}
	w.goOn = sync.NewCond(&w.mu)
	var carrying sync.WaitGroup
	carrying.Go(func() { w.serve(&carrying) })
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		w.freeze(false)
		carrying.Wait()
	})
	return w
}

func (w *wire) url() string { return "nats://" + w.listener.Addr().String() }

func (w *wire) serve(carrying *sync.WaitGroup) {
	for {
		in, err := w.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", w.to)
		w.mu.Lock()
		if err != nil || w.broken {
			w.mu.Unlock()
			_ = in.Close()
			continue
		}
		w.ends = append(w.ends, in, out)
		w.mu.Unlock()
		carrying.Go(func() { w.carry(in, out) })
		carrying.Go(func() { w.carry(out, in) })
	}
}

func (w *wire) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		for w.frozen {
			w.goOn.Wait()
		}
		w.mu.Unlock()
		if _, errWrite := to.Write(buf[:n]); err != nil || errWrite != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				w.t.Logf("wire: %v, %v", err, errWrite)
			}
			return
		}
	}
}

func (w *wire) freeze(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = on
	w.goOn.Broadcast()
}

// cut breaks all connections and lets nobody in until mend.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = true
	for _, c := range w.ends {
		_ = c.Close()
	}
	w.ends = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = false
}

// made is a pulse over a wire.
func made(t *testing.T, p pace) (*Pulse, *wire) {
	t.Helper()
	w := newWire(t, natstest.Start(t).URL())
	nc, err := nats.Connect(w.url(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	store, err := kvtx.Ensure(t.Context(), js, kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	beats := New(nc, store, nil)
	beats.pace = p
	return beats, w
}

// beating is one that runs.
func beating(t *testing.T, p pace) (*Pulse, *wire) {
	t.Helper()
	beats, w := made(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := beats.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	eventually(t, "the first answer", func() bool { return beats.answered.Load() > 0 })
	return beats, w
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func requireSilence(t *testing.T, err error, w *wire) {
	t.Helper()
	e, ok := errors.AsType[*messages.Error](err)
	if !ok || e.Code != messages.CodeUnavailable || !strings.Contains(e.Message, "NATS ("+w.url()+")") || !strings.Contains(e.Message, " has not answered for ") {
		t.Errorf("error %v, want it said that %s does not answer", err, w.url())
	}
}

var quick = pace{every: 5 * time.Millisecond, limit: 300 * time.Millisecond, gone: 500 * time.Millisecond, patience: time.Hour, stale: 200 * time.Millisecond}

// A server that was stopped keeps its connections: only that it does not answer says so.
func TestAServerThatHangsIsSaidToBeSilentUntilItAnswers(t *testing.T) {
	t.Parallel()
	p, w := beating(t, quick)
	during, cancel := p.While(t.Context())
	defer cancel()
	for range 2 {
		w.freeze(true)
		eventually(t, "the silence", func() bool { return p.Silent() != nil })
		requireSilence(t, p.Silent(), w)
		requireSilence(t, p.Await(t.Context()), w)
		if stale := p.Stale(); stale < quick.stale || p.nc.Status() != nats.CONNECTED {
			t.Errorf("stale for %s while %s, want longer than %s while connected", stale, p.nc.Status(), quick.stale)
		}
		<-during.Done()
		requireSilence(t, context.Cause(during), w)
		w.freeze(false)
		eventually(t, "an answer", func() bool { return p.Silent() == nil && p.Stale() == 0 })
		if err := p.Await(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A connection that is back within its time is waited for, however long this machine takes: the time is far away.
func TestALostConnectionIsWaitedFor(t *testing.T) {
	t.Parallel()
	moment := quick
	moment.gone, moment.limit = time.Hour, time.Hour // no question is lost: the connection alone decides
	p, w := beating(t, moment)
	w.cut()
	eventually(t, "the break", func() bool { return !p.nc.IsConnected() })
	if err := p.Ready(); err == nil {
		t.Error("ready without a connection")
	}
	back := make(chan error, 1)
	go func() { back <- p.Await(t.Context()) }()
	w.mend()
	if err := <-back; err != nil {
		t.Errorf("a connection that is back: %v", err)
	}
	eventually(t, "ready again", func() bool { return p.Ready() == nil })
}

// Once it has been gone for its time nobody waits for it any more.
func TestAConnectionThatIsGoneIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	moment := quick
	moment.limit = time.Hour
	p, w := beating(t, moment)
	w.cut()
	eventually(t, "the break", func() bool { return !p.nc.IsConnected() })
	requireSilence(t, p.Await(t.Context()), w)
	if quiet := p.quiet(); quiet < moment.gone {
		t.Errorf("refused after %s, want it waited for %s", quiet, moment.gone)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	requireSilence(t, p.Await(ended), w) // who waited would say that the context has ended
	during, cancel := p.While(t.Context())
	defer cancel()
	<-during.Done()
	requireSilence(t, context.Cause(during), w)
	w.mend()
	eventually(t, "an answer", func() bool { return p.Silent() == nil })
}

// What was sent is waited for longer than what was not.
func TestWhatWasSentIsWaitedForLonger(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		patience time.Duration
		ends     bool
	}{"within its time": {time.Hour, false}, "beyond": {time.Millisecond, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			moment := quick
			moment.patience = c.patience
			p, w := beating(t, moment)
			unsent, cancel := p.While(t.Context())
			defer cancel()
			sent, cancel := p.Patient(t.Context())
			defer cancel()
			w.freeze(true)
			<-unsent.Done()
			if !c.ends {
				if err := sent.Err(); err != nil {
					t.Errorf("given up, too: %v", err)
				}
				return
			}
			<-sent.Done()
			requireSilence(t, context.Cause(sent), w)
		})
	}
}

// A stream that was made again answers, but is no use to this process.
func TestAReplacedStreamEndsThePulse(t *testing.T) {
	t.Parallel()
	p, w := made(t, quick)
	js, err := jetstream.New(p.nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "KV_"+kvtx.DefaultBucket); err != nil {
		t.Fatal(err)
	}
	var other *kvtx.Store
	eventually(t, "a stream of that name", func() bool { // the server removes the old one's files in its own time
		other, err = kvtx.Ensure(t.Context(), js, kvtx.Config{})
		return err == nil
	})
	t.Cleanup(func() { _ = other.Close() })
	if err := p.Run(t.Context()); !errors.Is(err, kvtx.ErrStreamReplaced) || !strings.Contains(err.Error(), w.url()) {
		t.Errorf("Run on a stream that was made again = %v, want that and %s", err, w.url())
	}
}

// What is known better is said instead.
func TestAKnownReasonIsSaidInstead(t *testing.T) {
	t.Parallel()
	p, w := beating(t, quick)
	p.known = func() error { return errors.New("the disk is full") }
	if err := p.Silent(); err != nil {
		t.Errorf("said %v although it answers", err)
	}
	w.freeze(true)
	eventually(t, "the silence", func() bool { return p.Silent() != nil })
	if err := p.Silent(); err.Error() != "the disk is full" {
		t.Errorf("said %q", err)
	}
}
