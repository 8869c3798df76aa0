// Package pulse knows whether the stream answers, so that nobody waits for what does not come.
//
// Nouns: a Pulse asks the stream's leader once a second; it is silent when nobody has answered for some seconds.
//
// Invariants:
//   - A connection alone is no answer: it stays for minutes when the server behind it hangs.
//   - Silence is said in words that name the servers, or a better reason where one is known; they may cross the wire.
//
// It decides nothing: API nodes refuse by it what would wait, volume nodes say by it that they are not ready.
package pulse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
)

// pace is how fast a pulse is.
type pace struct {
	// every is how often the stream's leader is asked, limit how long its answer is waited for: longer than a slow disk makes it wait.
	every, limit time.Duration
	// gone is how long the connection may be gone before what needs it is refused: another server may take it over.
	gone time.Duration
	// patience is how long what was sent is waited for: an answer, also a late one, is better than to know nothing.
	patience time.Duration
	// stale is when what is read from memory is called out of date: several questions could have been answered.
	stale time.Duration
}

var usualPace = pace{every: time.Second, limit: 4 * time.Second, gone: 2 * time.Second, patience: 10 * time.Second, stale: 3 * time.Second}

// maxUnanswered: after so many questions without an answer it is said that there is none. One is lost while this process stands still.
const maxUnanswered = 2

// Pulse is safe for concurrent use.
type Pulse struct {
	nc  *nats.Conn
	ask func(context.Context) error
	// known is a better reason why the stream does not answer, where there is one.
	known func() error
	pace  pace

	begin      time.Time
	answered   atomic.Int64 // when the last question was asked that was answered, after begin
	unanswered atomic.Int64 // questions since then
}

// New makes a pulse of the store, which is on the connection. known, if not nil, says why the process around it cannot work, or nil.
func New(nc *nats.Conn, store *kvtx.Store, known func() error) *Pulse {
	return &Pulse{nc: nc, ask: store.Check, known: known, pace: usualPace, begin: time.Now()}
}

// Run asks until ctx ends, then it returns nil, or until the stream is another one than it was: kvtx.ErrStreamReplaced, kvtx.ErrStream.
func (p *Pulse) Run(ctx context.Context) error {
	tick := time.NewTicker(p.pace.every)
	defer tick.Stop()
	for ctx.Err() == nil {
		at := time.Since(p.begin)
		limited, cancel := context.WithTimeout(ctx, p.pace.limit)
		switch err := p.ask(limited); {
		case err == nil:
			p.answered.Store(int64(at))
			p.unanswered.Store(0)
		case errors.Is(err, kvtx.ErrStreamReplaced), errors.Is(err, kvtx.ErrStream):
			cancel()
			return fmt.Errorf("NATS (%s): %w: this process cannot go on with it", p.server(), err)
		default:
			p.unanswered.Add(1)
		}
		cancel()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// quiet is how long there has been no answer.
func (p *Pulse) quiet() time.Duration { return time.Since(p.begin) - time.Duration(p.answered.Load()) }

// Silent says which server does not answer, since when, and what to do; nil: it answers.
func (p *Pulse) Silent() error {
	if p.unanswered.Load() < maxUnanswered && (p.quiet() < p.pace.gone || p.nc.IsConnected()) {
		return nil
	}
	return p.silence()
}

// Ready is Silent, but also says that there is no connection just now.
func (p *Pulse) Ready() error {
	if !p.nc.IsConnected() {
		return p.silence()
	}
	return p.Silent()
}

// silence puts in words that there is no answer.
func (p *Pulse) silence() error {
	if p.known != nil {
		if err := p.known(); err != nil {
			return messages.Errorf(messages.CodeUnavailable, "%v", err)
		}
	}
	what := "NATS (" + p.server() + ")"
	if !p.nc.IsConnected() {
		what = "there is no connection to " + what + ", it"
	}
	return messages.Errorf(messages.CodeUnavailable, "%s has not answered for %s: see that it runs and can be reached; "+
		"what was accepted goes on when it answers", what, p.quiet().Truncate(time.Second))
}

// server is how people know the servers.
func (p *Pulse) server() string {
	if p.nc.Opts.InProcessServer != nil {
		return "the server of this process"
	}
	return strings.Join(p.nc.Servers(), ", ")
}

// Await returns when the stream can be asked, as far as is known: at once, unless its connection has just been lost. Errors: as Silent, ctx's.
func (p *Pulse) Await(ctx context.Context) error {
	for !p.nc.IsConnected() && p.quiet() < p.pace.gone {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return p.Silent()
}

// While is ctx, ended when the stream stops answering: context.Cause is that of Silent.
func (p *Pulse) While(ctx context.Context) (context.Context, context.CancelFunc) {
	return p.while(ctx, 0)
}

// Patient is While for what is sent and then in doubt: it ends when there has been no answer for ten seconds.
func (p *Pulse) Patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return p.while(ctx, p.pace.patience)
}

func (p *Pulse) while(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if err := p.Silent(); err != nil && p.quiet() >= patience {
				end(err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return ctx, func() { end(nil); <-watched }
}

// Stale is how long what is read from memory may be out of date; 0: it is not, but for a moment.
func (p *Pulse) Stale() time.Duration {
	if quiet := p.quiet(); quiet > p.pace.stale {
		return quiet
	}
	return 0
}
