package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// endSignals are those that tell a process to end by itself. A terminal that is closed sends SIGHUP; under nohup it stays ignored.
func endSignals() []os.Signal {
	end := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		end = append(end, syscall.SIGHUP)
	}
	return end
}

// interruption is the end of a command by a signal.
type interruption struct{ signal syscall.Signal }

func (*interruption) Error() string { return "interrupted" }

// Is makes it one of the ways in which a context is canceled.
func (*interruption) Is(target error) bool { return target == context.Canceled }

// status is the exit status that a shell gives a command which a signal ended.
func (i *interruption) status() int { return 128 + int(i.signal) }

// untilSignal returns a context that a signal ends, with an interruption as its cause.
func untilSignal(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, endSignals()...)
	go func() {
		select {
		case s := <-signals:
			number, _ := s.(syscall.Signal)
			cancel(&interruption{number})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// interrupted returns the interruption that ended the context, or nil.
func interrupted(ctx context.Context) *interruption {
	i, _ := errors.AsType[*interruption](context.Cause(ctx))
	return i
}

// outliveReaders lets a process go on when nobody reads its standard output or error any more: what it writes there is lost, and
// nothing else. Go's own way is to die of SIGPIPE. The signal is caught, not ignored: programs that are started would inherit that.
func outliveReaders() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
