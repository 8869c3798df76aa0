package nbd

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
)

// transmission is the second part of a connection: requests and their answers.
//
// One goroutine reads requests. It answers by itself what takes no waiting (reads of data that is in memory, refusals);
// workers do the rest, those for changes apart from the others: while writes are held, reads go on. Answers are collected
// while more requests lie ready, and sent before the reader waits for anything.
type transmission struct {
	*conn
	device  Device
	session session
	budget  *budget
	out     sender
	changes lane // writes, trims, zeroes: what a hold makes wait
	others  lane
	workers sync.WaitGroup
}

// lane is tasks and the workers that do them.
type lane struct {
	tasks   chan task    // has room for all that the budget allows: giving a task never waits
	workers int          // started; used by the reader alone
	busy    atomic.Int64 // tasks given and not done
}

// task is a request that was checked, with its buffer: the data of a write, room for the answer of anything else.
type task struct {
	request
	buf *buffer
}

// inlineRead is the largest read that the reader itself does: copying more would keep other requests waiting.
const inlineRead = 64 << 10

func newTransmission(c *conn, d Device, s session) *transmission {
	b := newBudget()
	return &transmission{
		conn: c, device: d, session: s, budget: b,
		out:     sender{nc: c.nc, budget: b},
		changes: lane{tasks: make(chan task, MaxInFlight)},
		others:  lane{tasks: make(chan task, MaxInFlight)},
	}
}

// run ends when the client disconnects, breaks the protocol or is cut off, and all that it asked for has ended.
func (t *transmission) run() error {
	err := t.read()
	close(t.changes.tasks)
	close(t.others.tasks)
	t.workers.Wait()
	t.out.flush()
	return err
}

// read takes requests until there are no more; nil: the client said so.
func (t *transmission) read() error {
	for {
		t.want(requestBytes)
		p, err := t.in.Peek(requestBytes)
		if err != nil {
			if len(p) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		r, err := parseRequest(p)
		if err != nil {
			return err
		}
		_, _ = t.in.Discard(requestBytes) // was peeked
		if r.command == cmdDisc {
			return nil
		}
		if errno := t.session.check(r); errno != 0 {
			if r.command == cmdWrite {
				t.want(int(r.length))
				if _, err := io.CopyN(io.Discard, t.in, int64(r.length)); err != nil {
					return err
				}
			}
			t.out.add(t.take(0).failure(&t.session, r, errno))
			continue
		}
		if err := t.start(r); err != nil {
			return err
		}
	}
}

// want sends what is queued if the reader would have to wait for n bytes of the client.
func (t *transmission) want(n int) {
	if t.in.Buffered() < n {
		t.out.flush()
	}
}

// take returns a buffer for n bytes, charged to the connection.
func (t *transmission) take(n int) *buffer {
	cost := costOf(n)
	if !t.budget.try(cost) {
		t.out.flush()
		t.budget.take(cost)
	}
	b := newBuffer(n)
	b.cost = cost
	return b
}

// start carries out a legal request or gives it to a worker.
func (t *transmission) start(r request) error {
	switch r.command {
	case cmdRead:
		buf := t.take(int(r.length))
		data := buf.data(int(r.length))
		if r.length <= inlineRead && t.device.TryReadAt(data, int64(r.offset)) {
			t.out.add(buf.read(&t.session, r, len(data)))
			return nil
		}
		t.give(task{r, buf})
	case cmdWrite:
		buf := t.take(int(r.length))
		t.want(int(r.length))
		if _, err := io.ReadFull(t.in, buf.data(int(r.length))); err != nil {
			t.budget.give(1, buf.cost)
			buf.free()
			return err
		}
		t.give(task{r, buf})
	case cmdBlockStatus:
		t.give(task{r, t.take(4 + maxExtents*descriptorBytes)})
	case cmdFlush, cmdTrim, cmdCache, cmdWriteZeroes, cmdDisc:
		t.give(task{r, t.take(0)})
	}
	return nil
}

// give hands a task to the workers; if all are busy and there may be more, it starts one.
func (t *transmission) give(k task) {
	l := &t.others
	if k.command.changes() {
		l = &t.changes
	}
	l.tasks <- k
	if l.busy.Add(1) > int64(l.workers) && l.workers < maxWorkers {
		l.workers++
		t.workers.Go(func() {
			for k := range l.tasks {
				t.do(k)
				l.busy.Add(-1)
			}
		})
	}
}

// do carries out a task and sends the answer.
func (t *transmission) do(k task) {
	errno := eShutdown
	if t.ctx.Err() == nil {
		errno = wireError(t.carryOut(k))
	}
	switch {
	case errno != 0:
		k.buf.failure(&t.session, k.request, errno)
	case k.command == cmdRead:
		k.buf.read(&t.session, k.request, int(k.length))
	case k.command == cmdBlockStatus: // made by carryOut
	default:
		k.buf.simple(k.request, 0, 0)
	}
	t.out.send(k.buf)
}

func (t *transmission) carryOut(k task) error {
	off, n := int64(k.offset), int64(k.length)
	var err error
	switch k.command {
	case cmdRead:
		return t.device.ReadAt(k.buf.data(int(n)), off)
	case cmdFlush:
		return t.device.Sync()
	case cmdCache:
		t.device.Prefetch(off, n)
		return nil
	case cmdBlockStatus:
		return t.blockStatus(k)
	case cmdWrite:
		err = t.device.WriteAt(t.ctx, k.buf.data(int(n)), off)
	case cmdTrim:
		err = t.device.Trim(t.ctx, off, n)
	case cmdWriteZeroes:
		err = t.device.WriteZeroes(t.ctx, off, n, k.flags&cmdFlagNoHole != 0, k.flags&cmdFlagFastZero != 0)
	default:
		return eInval
	}
	if err == nil && k.flags&cmdFlagFUA != 0 {
		err = t.device.Sync()
	}
	return err
}

// blockStatus makes the answer in the task's buffer: the context's ID, then length and state of each extent.
func (t *transmission) blockStatus(k task) error {
	limit := maxExtents
	if k.flags&cmdFlagReqOne != 0 {
		limit = 1
	}
	p := binary.BigEndian.AppendUint32(k.buf.data(0), allocationID)
	left, count := int64(k.length), 0
	t.device.Extents(int64(k.offset), left, func(bytes int64, hole bool) bool {
		bytes = min(bytes, left)
		if bytes <= 0 || count == limit {
			return false
		}
		state := uint32(0)
		if hole {
			state = stateHole | stateZero
		}
		p = binary.BigEndian.AppendUint32(p, uint32(bytes))
		p = binary.BigEndian.AppendUint32(p, state)
		count++
		left -= bytes
		return left > 0 && count < limit
	})
	if count == 0 {
		return errNoExtents
	}
	k.buf.chunk(k.request, replyBlockStatus, 0, len(p))
	return nil
}

var errNoExtents = errors.Join(errors.New("the device describes nothing"), syscall.EIO)
