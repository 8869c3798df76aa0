package saga

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"
)

// Memory is a journal that lives and dies with its process: for tests and examples. It passes the
// conformance suite. A Write for it is a MemoryWrite.
type Memory struct {
	mu      sync.Mutex
	rev     uint64
	appends int
	runs    map[ID]*memoryRun
}

// MemoryWrite is a Write for Memory. Its functions are called while the journal is locked, so they must not
// use it.
type MemoryWrite struct {
	Refuse func() error // an error refuses the whole entry; may be nil
	Apply  func()       // called if no write of the entry refused; may be nil
}

type memoryRun struct {
	head  Head
	phase Phase
	epoch uint64
}

// NewMemory returns an empty journal.
func NewMemory() *Memory { return &Memory{runs: make(map[ID]*memoryRun)} }

var _ Journal = (*Memory)(nil)

// Appends counts the entries committed by Logs since the start.
func (m *Memory) Appends() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.appends
}

// Begin implements Journal.
func (m *Memory) Begin(ctx context.Context, id ID, first Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !isToken(string(id)) {
		return fmt.Errorf("the run ID %q is not a token ([A-Za-z0-9_.-]{1,64})", id)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runs[id] != nil {
		return fmt.Errorf("run %s: %w", id, ErrExists)
	}
	if err := call(first.Writes); err != nil {
		return err
	}
	m.runs[id] = &memoryRun{head: Head{Record: bytes.Clone(first.Record)}, phase: first.Phase}
	return nil
}

// find is called with the lock held.
func (m *Memory) find(id ID) (*memoryRun, error) {
	r := m.runs[id]
	if r == nil {
		return nil, fmt.Errorf("run %s: %w", id, ErrNotFound)
	}
	return r, nil
}

func (m *Memory) findOpen(id ID) (*memoryRun, error) {
	r, err := m.find(id)
	if err == nil && r.phase.Ended() {
		return nil, fmt.Errorf("run %s: %w", id, ErrEnded)
	}
	return r, err
}

// TakeOver implements Journal.
func (m *Memory) TakeOver(ctx context.Context, id ID) (Log, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.findOpen(id)
	if err != nil {
		return nil, err
	}
	if r.phase == Stuck {
		return nil, fmt.Errorf("run %s: %w", id, ErrStuck)
	}
	r.epoch++
	r.head.Epoch = r.epoch
	m.rev++
	return &memoryLog{m: m, id: id, epoch: r.epoch, fence: Fence{Era: 1, Rev: m.rev}, head: r.head}, nil
}

// Load implements Journal.
func (m *Memory) Load(ctx context.Context, id ID) (Head, error) {
	if err := ctx.Err(); err != nil {
		return Head{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.find(id)
	if err != nil {
		return Head{}, err
	}
	return r.head, nil
}

// Cancel implements Journal.
func (m *Memory) Cancel(ctx context.Context, id ID, who string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.findOpen(id)
	if err == nil && r.head.Cancel == nil {
		r.head.Cancel = &CancelRequest{Who: who, At: time.Now()}
	}
	return err
}

// Resume implements Journal.
func (m *Memory) Resume(ctx context.Context, id ID, who string, next func(rec []byte) (Entry, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.findOpen(id)
	if err != nil {
		return err
	}
	if r.phase != Stuck {
		return fmt.Errorf("run %s: %w", id, ErrNotStuck)
	}
	e, err := next(r.head.Record)
	if err != nil {
		return err
	}
	if err := call(e.Writes); err != nil {
		return err
	}
	r.head.Record, r.phase = bytes.Clone(e.Record), e.Phase
	return nil
}

// Open implements Journal.
func (m *Memory) Open(ctx context.Context) iter.Seq2[ID, error] {
	return func(yield func(ID, error) bool) {
		m.mu.Lock()
		var ids []ID
		for id, r := range m.runs {
			if !r.phase.Ended() {
				ids = append(ids, id)
			}
		}
		m.mu.Unlock()
		slices.Sort(ids)
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

type memoryLog struct {
	m     *Memory
	id    ID
	epoch uint64
	fence Fence
	head  Head
}

func (l *memoryLog) ID() ID        { return l.id }
func (l *memoryLog) Epoch() uint64 { return l.epoch }
func (l *memoryLog) Fence() Fence  { return l.fence }
func (l *memoryLog) Head() Head    { return l.head }

func (l *memoryLog) Append(ctx context.Context, e Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	r := l.m.runs[l.id]
	if r.epoch != l.epoch || r.phase.Ended() {
		return fmt.Errorf("run %s: %w", l.id, ErrFenced)
	}
	if !r.phase.MayMove(e.Phase) {
		return fmt.Errorf("run %s may not go from %s to %s", l.id, r.phase, e.Phase)
	}
	l.head = r.head
	if e.Heed && r.head.Cancel != nil {
		return fmt.Errorf("run %s: %w", l.id, ErrCanceled)
	}
	if err := call(e.Writes); err != nil {
		return err
	}
	r.head.Record, r.phase = bytes.Clone(e.Record), e.Phase
	l.head = r.head
	l.m.appends++
	return nil
}

var errWriteType = errors.New("saga.Memory takes writes of type saga.MemoryWrite")

// call asks all writes first, then applies them: all or none.
func call(writes []Write) error {
	for _, w := range writes {
		mw, ok := w.(MemoryWrite)
		if !ok {
			return &RefusedError{Err: Permanent(errWriteType)}
		}
		if mw.Refuse == nil {
			continue
		}
		if err := mw.Refuse(); err != nil {
			return &RefusedError{Err: err}
		}
	}
	for _, w := range writes {
		if mw := w.(MemoryWrite); mw.Apply != nil {
			mw.Apply()
		}
	}
	return nil
}
