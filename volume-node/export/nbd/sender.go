package nbd

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// errBroken: the answers cannot be delivered.
var errBroken = errors.New("connection broken")

// sender delivers answers. Whoever has one queues it; one at a time sends what is queued, so that answers which are ready
// at the same moment go out in one system call.
type sender struct {
	nc     net.Conn
	budget *budget

	mu      sync.Mutex
	queue   []*buffer
	spare   []*buffer // the other of two arrays that take turns
	waiting int       // bytes queued
	sending bool
	err     error
	vector  net.Buffers // of whoever is sending
	moving  net.Buffers // the same array, what is left of it
}

// enoughQueued is how many bytes are worth sending although more is about to come.
const enoughQueued = 256 << 10

// add queues an answer without sending it, unless much is queued.
func (s *sender) add(b *buffer) {
	s.mu.Lock()
	s.queue = append(s.queue, b)
	s.waiting += len(b.b)
	enough := s.waiting >= enoughQueued
	s.mu.Unlock()
	if enough {
		s.flush()
	}
}

// send queues an answer and has it sent.
func (s *sender) send(b *buffer) {
	s.mu.Lock()
	s.queue = append(s.queue, b)
	s.waiting += len(b.b)
	s.mu.Unlock()
	s.flush()
}

// flush has what is queued sent: by the caller, or by the one who is sending already.
func (s *sender) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sending {
		return
	}
	s.sending = true
	for len(s.queue) > 0 {
		batch := s.queue
		s.queue, s.waiting = s.spare[:0], 0
		err := s.err
		s.mu.Unlock()
		if err == nil {
			err = s.write(batch)
		}
		bytes := 0
		for i, b := range batch {
			bytes += b.cost
			b.free()
			batch[i] = nil
		}
		s.budget.give(len(batch), bytes)
		s.mu.Lock()
		s.spare = batch
		if err != nil && s.err == nil {
			s.err = errors.Join(errBroken, err)
			_ = s.nc.SetReadDeadline(time.Now()) // nobody listens: stop reading
		}
	}
	s.sending = false
}

func (s *sender) write(batch []*buffer) error {
	if len(batch) == 1 {
		_, err := s.nc.Write(batch[0].b)
		return err
	}
	vector := s.vector[:0]
	for _, b := range batch {
		vector = append(vector, b.b)
	}
	s.vector, s.moving = vector, vector
	_, err := s.moving.WriteTo(s.nc)
	return err
}

// simple makes b the simple reply to r, with n bytes of data in place.
func (b *buffer) simple(r request, errno syscall.Errno, n int) *buffer {
	b.b = b.room[largestReplyHeader-simpleBytes : largestReplyHeader+n]
	binary.BigEndian.PutUint32(b.b, magicSimple)
	binary.BigEndian.PutUint32(b.b[4:], uint32(errno))
	binary.BigEndian.PutUint64(b.b[8:], r.cookie)
	return b
}

// chunk makes b the only chunk of a structured reply to r; the payload is before bytes ahead of the data's place and n
// bytes of it.
func (b *buffer) chunk(r request, kind uint16, before, n int) *buffer {
	b.b = b.room[largestReplyHeader-before-structuredBytes : largestReplyHeader+n]
	binary.BigEndian.PutUint32(b.b, magicStructured)
	binary.BigEndian.PutUint16(b.b[4:], replyFlagDone)
	binary.BigEndian.PutUint16(b.b[6:], kind)
	binary.BigEndian.PutUint64(b.b[8:], r.cookie)
	binary.BigEndian.PutUint32(b.b[16:], uint32(before+n))
	return b
}

// read makes b the reply to a read whose n bytes of data are in place.
func (b *buffer) read(s *session, r request, n int) *buffer {
	if !s.structured {
		return b.simple(r, 0, n)
	}
	if n == 0 {
		return b.chunk(r, replyNone, 0, 0)
	}
	b.chunk(r, replyOffsetData, offsetBytes, n)
	binary.BigEndian.PutUint64(b.b[structuredBytes:], r.offset)
	return b
}

// failure makes b the reply that r failed.
func (b *buffer) failure(s *session, r request, errno syscall.Errno) *buffer {
	if !s.structured {
		return b.simple(r, errno, 0)
	}
	text := errno.Error()
	p := b.data(6 + len(text))
	binary.BigEndian.PutUint32(p, uint32(errno))
	binary.BigEndian.PutUint16(p[4:], uint16(len(text)))
	copy(p[6:], text)
	return b.chunk(r, replyError, 0, len(p))
}
