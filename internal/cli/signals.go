package cli

import (
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

// outliveReaders lets a process go on when nobody reads its standard output or error any more: what it writes there is lost, and
// nothing else. Go's own way is to die of SIGPIPE. The signal is caught, not ignored: programs that are started would inherit that.
func outliveReaders() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
