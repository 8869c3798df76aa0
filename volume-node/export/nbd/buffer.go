package nbd

import (
	"sync"
)

// buffer is memory from a pool: room for the header of a reply, then data.
type buffer struct {
	b     []byte // what is in use, from the start of the header
	room  []byte
	class int
	cost  int // what the connection's budget was charged with
}

// sizes of the pools, room for the header of a reply aside. A 4 KiB read takes a buffer of the second.
var sizes = [...]int{64, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, MaxRequest}

var pools [len(sizes)]sync.Pool

// newBuffer returns a buffer with room for n bytes and a header; n is at most MaxRequest.
func newBuffer(n int) *buffer {
	class := 0
	for sizes[class] < n {
		class++
	}
	buf, ok := pools[class].Get().(*buffer)
	if !ok {
		buf = &buffer{room: make([]byte, sizes[class]+largestReplyHeader), class: class}
	}
	buf.b = buf.room[:largestReplyHeader+n]
	return buf
}

func (b *buffer) free() {
	b.b = nil
	pools[b.class].Put(b)
}

// data is the n bytes behind the room for a header.
func (b *buffer) data(n int) []byte { return b.room[largestReplyHeader : largestReplyHeader+n] }

// costOf is what the budget is charged with for a request with n bytes of data.
func costOf(n int) int {
	for _, size := range sizes {
		if size >= n {
			return size + largestReplyHeader
		}
	}
	return n
}

// budget bounds what a connection has in flight. A request takes its share before its data is read, and gives it back
// when its answer has been sent.
type budget struct {
	mu       sync.Mutex
	changed  sync.Cond
	requests int // free
	bytes    int // free
}

func newBudget() *budget {
	b := &budget{requests: MaxInFlight, bytes: maxBytes}
	b.changed.L = &b.mu
	return b
}

func (b *budget) try(bytes int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.requests == 0 || b.bytes < bytes {
		return false
	}
	b.requests--
	b.bytes -= bytes
	return true
}

// take waits for a share. What it waits for always comes: answers are sent, or the connection breaks and they are dropped.
func (b *budget) take(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.requests == 0 || b.bytes < bytes {
		b.changed.Wait()
	}
	b.requests--
	b.bytes -= bytes
}

func (b *budget) give(requests, bytes int) {
	b.mu.Lock()
	b.requests += requests
	b.bytes += bytes
	b.mu.Unlock()
	b.changed.Signal() // one reader waits at most
}
