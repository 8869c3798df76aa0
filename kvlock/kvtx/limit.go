package kvtx

import (
	"fmt"
	"sync"
)

// Bounds of what is under way, by default: see [WithLimit].
const (
	DefaultLimitCommits = 8192
	DefaultLimitBytes   = 64 << 20
)

// perCall is about what a commit takes beside what it stages: its caller's goroutine, what its function read.
const perCall = 2 << 10

// limit bounds the commits that are under way, from their call to its return: those that read, wait, and are in flight. Without it a
// server that stands still, or is too slow, would fill the memory of every process that goes on taking requests.
type limit struct {
	commits, bytes int // At most.

	mu        sync.Mutex
	inCommits int
	inBytes   int
}

// enter lets one commit in, or says that there are too many. Those that yield leave half of the limit to the others.
func (l *limit) enter(bytes int, yields bool) error {
	commits, most := l.commits, l.bytes
	if yields {
		commits, most = commits/2, most/2
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// One alone is always let in: how large it may be is bounded elsewhere.
	if l.inCommits > 0 && (l.inCommits+1 > commits || l.inBytes+bytes > most) {
		return fmt.Errorf("%w: %d commits of about %d bytes are under way", ErrBusy, l.inCommits, l.inBytes)
	}
	l.inCommits++
	l.inBytes += bytes
	return nil
}

func (l *limit) leave(bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inCommits--
	l.inBytes -= bytes
}
