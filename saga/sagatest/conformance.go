package sagatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/saga"
)

// Bench is a fresh journal and what the suite needs to look at its staged writes.
type Bench struct {
	Journal saga.Journal
	Write   func(key string) saga.Write         // makes key there
	Refuse  func(err error) saga.Write          // refuses with err
	Written func(t *testing.T, key string) bool // key is there
}

// Conformance checks that a journal keeps the promises of saga.Journal and saga.Log. Each check gets a journal of
// its own, and all run in parallel.
func Conformance(t *testing.T, newBench func(t *testing.T) Bench) {
	t.Helper()
	for _, c := range []struct {
		name  string
		check func(t *testing.T, b *bench)
	}{
		{"a run begins once", beginsOnce},
		{"an unknown run is not found", unknownRun},
		{"what was begun is loaded", loads},
		{"a take-over raises epoch and fence", takeOverRaises},
		{"an overtaken log writes nothing", overtakenWritesNothing},
		{"of many take-overs one log writes", manyTakeOvers},
		{"an entry and its writes are one", entryAndWrites},
		{"a refusal commits nothing", refusal},
		{"a foreign write is refused for good", foreignWrite},
		{"a cancel request is found at the next write", cancelAtNextWrite},
		{"an entry that heeds is refused by a cancel request", heedingEntry},
		{"a cancel request survives a take-over", cancelSurvives},
		{"an ended run stays ended", endedStays},
		{"a stuck run waits for a person", stuckWaits},
		{"only a stuck run is resumed", resumeOnlyStuck},
		{"a refused resume changes nothing", resumeRefused},
		{"a run does not go from undoing to running", illegalMove},
		{"a record of the largest size fits", largeRecord},
		{"an ended context writes nothing", endedContext},
		{"open lists what has not ended", openLists},
		{"sagas run on it", sagasRun},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, &bench{Bench: newBench(t), t: t})
		})
	}
}

type bench struct {
	Bench
	t *testing.T
}

const runID = saga.ID("run-1")

func (b *bench) begin(id saga.ID) {
	b.t.Helper()
	if err := b.Journal.Begin(b.t.Context(), id, saga.Entry{Record: []byte("first"), Phase: saga.Running}); err != nil {
		b.t.Fatalf("Begin(%s) = %v", id, err)
	}
}

func (b *bench) takeOver(id saga.ID) saga.Log {
	b.t.Helper()
	l, err := b.Journal.TakeOver(b.t.Context(), id)
	if err != nil {
		b.t.Fatalf("TakeOver(%s) = %v", id, err)
	}
	return l
}

func (b *bench) append(l saga.Log, rec string, p saga.Phase, writes ...saga.Write) {
	b.t.Helper()
	if err := l.Append(b.t.Context(), saga.Entry{Record: []byte(rec), Phase: p, Writes: writes}); err != nil {
		b.t.Fatalf("Append(%s, %s) = %v", rec, p, err)
	}
}

func (b *bench) want(err, want error, what string) {
	b.t.Helper()
	if !errors.Is(err, want) {
		b.t.Errorf("%s = %v, want %v", what, err, want)
	}
}

func (b *bench) wantRecord(id saga.ID, want string) {
	b.t.Helper()
	h, err := b.Journal.Load(b.t.Context(), id)
	if err != nil || string(h.Record) != want {
		b.t.Errorf("Load(%s) = record %.40q, error %v, want %.40q", id, h.Record, err, want)
	}
}

func (b *bench) wantWritten(key string, want bool) {
	b.t.Helper()
	if got := b.Written(b.t, key); got != want {
		b.t.Errorf("staged write %s is there: %v, want %v", key, got, want)
	}
}

func resumeTo(rec string, p saga.Phase) func([]byte) (saga.Entry, error) {
	return func([]byte) (saga.Entry, error) { return saga.Entry{Record: []byte(rec), Phase: p}, nil }
}

func beginsOnce(t *testing.T, b *bench) {
	b.begin(runID)
	second := saga.Entry{Record: []byte("second"), Phase: saga.Running, Writes: []saga.Write{b.Write("w")}}
	b.want(b.Journal.Begin(t.Context(), runID, second), saga.ErrExists, "a second Begin")
	b.wantRecord(runID, "first")
	b.append(b.takeOver(runID), "last", saga.Done)
	b.want(b.Journal.Begin(t.Context(), runID, second), saga.ErrExists, "Begin of an ended run")
	b.wantRecord(runID, "last")
	b.wantWritten("w", false)
}

func unknownRun(t *testing.T, b *bench) {
	_, err := b.Journal.TakeOver(t.Context(), "nobody")
	b.want(err, saga.ErrNotFound, "TakeOver")
	_, err = b.Journal.Load(t.Context(), "nobody")
	b.want(err, saga.ErrNotFound, "Load")
	b.want(b.Journal.Cancel(t.Context(), "nobody", "user"), saga.ErrNotFound, "Cancel")
	b.want(b.Journal.Resume(t.Context(), "nobody", "user", resumeTo("x", saga.Running)), saga.ErrNotFound, "Resume")
}

func loads(t *testing.T, b *bench) {
	e := saga.Entry{Record: []byte("first"), Phase: saga.Running, Writes: []saga.Write{b.Write("w")}}
	if err := b.Journal.Begin(t.Context(), runID, e); err != nil {
		t.Fatal(err)
	}
	b.wantRecord(runID, "first")
	b.wantWritten("w", true)
	l := b.takeOver(runID)
	if l.ID() != runID || string(l.Head().Record) != "first" || l.Head().Cancel != nil {
		t.Errorf("Log of %s has head %q, cancel %v", l.ID(), l.Head().Record, l.Head().Cancel)
	}
	b.append(l, "second", saga.Running)
	if got := string(l.Head().Record); got != "second" {
		t.Errorf("Head after Append has record %q, want second", got)
	}
	b.wantRecord(runID, "second")
}

func takeOverRaises(t *testing.T, b *bench) {
	b.begin(runID)
	old := b.takeOver(runID)
	if old.Epoch() != 1 {
		t.Errorf("the first take-over has epoch %d, want 1: a higher one would mean that steps may have begun", old.Epoch())
	}
	b.append(old, "a", saga.Running)
	next := b.takeOver(runID)
	if next.Epoch() != 2 || !old.Fence().Less(next.Fence()) {
		t.Errorf("second take-over: epoch %d, fence %v after %v; want 2 and a higher fence", next.Epoch(), next.Fence(), old.Fence())
	}
	if string(next.Head().Record) != "a" {
		t.Errorf("second take-over found record %q, want a", next.Head().Record)
	}
}

func overtakenWritesNothing(t *testing.T, b *bench) {
	b.begin(runID)
	old := b.takeOver(runID)
	next := b.takeOver(runID)
	for _, p := range []saga.Phase{saga.Running, saga.Undoing, saga.Stuck, saga.Done, saga.Undone} {
		err := old.Append(t.Context(), saga.Entry{Record: []byte("stale"), Phase: p, Writes: []saga.Write{b.Write("stale")}})
		b.want(err, saga.ErrFenced, "a stale Append of phase "+p.String())
	}
	b.wantWritten("stale", false)
	b.wantRecord(runID, "first")
	b.append(next, "good", saga.Running, b.Write("good"))
	b.wantWritten("good", true)
}

func manyTakeOvers(t *testing.T, b *bench) {
	b.begin(runID)
	const workers = 8
	var mu sync.Mutex
	var logs []saga.Log
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			l, err := b.Journal.TakeOver(t.Context(), runID)
			if errors.Is(err, saga.ErrFenced) {
				return // another one came first
			}
			if err != nil {
				t.Errorf("TakeOver = %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			logs = append(logs, l)
		})
	}
	all.Wait()
	if len(logs) == 0 {
		t.Fatal("nobody took the run over")
	}
	slices.SortFunc(logs, func(a, b saga.Log) int { return a.Fence().Compare(b.Fence()) })
	for i, l := range logs {
		if i > 0 && l.Fence() == logs[i-1].Fence() {
			t.Errorf("two take-overs have the fence %v", l.Fence())
		}
		err := l.Append(t.Context(), saga.Entry{Record: fmt.Append(nil, i), Phase: saga.Running})
		if last := i == len(logs)-1; last && err != nil || !last && !errors.Is(err, saga.ErrFenced) {
			t.Errorf("Append of take-over %d of %d = %v", i+1, len(logs), err)
		}
	}
}

func entryAndWrites(t *testing.T, b *bench) {
	b.begin(runID)
	l := b.takeOver(runID)
	b.append(l, "a", saga.Running, b.Write("w1"), b.Write("w2"))
	b.wantWritten("w1", true)
	b.wantWritten("w2", true)
	b.append(l, "b", saga.Undoing, b.Write("w3"))
	b.append(l, "c", saga.Undone, b.Write("w4"))
	b.wantWritten("w3", true)
	b.wantWritten("w4", true)
	b.wantRecord(runID, "c")
}

func refusal(t *testing.T, b *bench) {
	b.begin(runID)
	l := b.takeOver(runID)
	full := errors.New("the pool is full")
	for _, p := range []saga.Phase{saga.Running, saga.Done} {
		err := l.Append(t.Context(), saga.Entry{Record: []byte("x"), Phase: p, Writes: []saga.Write{b.Write("w"), b.Refuse(saga.Permanent(full))}})
		if refused := (*saga.RefusedError)(nil); !errors.As(err, &refused) || !errors.Is(refused.Err, full) || !saga.IsPermanent(refused.Err) {
			t.Errorf("Append with a write that refuses = %v, want a RefusedError with its permanent error", err)
		}
	}
	b.wantWritten("w", false)
	b.wantRecord(runID, "first")
	if got := string(l.Head().Record); got != "first" {
		t.Errorf("Head after a refusal has record %q, want first", got)
	}
	b.append(l, "y", saga.Running, b.Write("w"))
	b.wantWritten("w", true)
}

func foreignWrite(t *testing.T, b *bench) {
	b.begin(runID)
	l := b.takeOver(runID)
	err := l.Append(t.Context(), saga.Entry{Record: []byte("x"), Phase: saga.Running, Writes: []saga.Write{struct{}{}}})
	if refused := (*saga.RefusedError)(nil); !errors.As(err, &refused) || !saga.IsPermanent(refused.Err) {
		t.Errorf("Append with a write of a type that the journal does not know = %v, want a permanent RefusedError", err)
	}
	b.wantRecord(runID, "first")
}

func cancelAtNextWrite(t *testing.T, b *bench) {
	b.begin(runID)
	l := b.takeOver(runID)
	for _, who := range []string{"ann", "bob"} {
		if err := b.Journal.Cancel(t.Context(), runID, who); err != nil {
			t.Fatalf("Cancel by %s = %v", who, err)
		}
	}
	if l.Head().Cancel != nil {
		t.Error("a log knows of a request that it has not read")
	}
	for _, rec := range []string{"a", "b"} {
		b.append(l, rec, saga.Running, b.Write(rec))
		c := l.Head().Cancel
		if c == nil || c.Who != "ann" || time.Since(c.At) > time.Hour {
			t.Errorf("after Append the head has cancel request %+v, want the first one, by ann, of now", c)
		}
	}
	b.wantRecord(runID, "b")
	b.wantWritten("a", true)
	h, err := b.Journal.Load(t.Context(), runID)
	if err != nil || h.Cancel == nil || h.Cancel.Who != "ann" {
		t.Errorf("Load = cancel %+v, error %v, want ann's", h.Cancel, err)
	}
}

func heedingEntry(t *testing.T, b *bench) {
	b.begin(runID)
	l := b.takeOver(runID)
	heeding := saga.Entry{Record: []byte("a"), Phase: saga.Running, Heed: true}
	if err := l.Append(t.Context(), heeding); err != nil {
		t.Fatalf("Append that heeds, without a request = %v", err)
	}
	if err := b.Journal.Cancel(t.Context(), runID, "ann"); err != nil {
		t.Fatal(err)
	}
	end := saga.Entry{Record: []byte("end"), Phase: saga.Done, Heed: true, Writes: []saga.Write{b.Write("w")}}
	b.want(l.Append(t.Context(), end), saga.ErrCanceled, "Append that heeds, with a request")
	if c := l.Head().Cancel; c == nil || c.Who != "ann" {
		t.Errorf("afterwards the head has cancel request %+v, want ann's", c)
	}
	b.wantRecord(runID, "a")
	b.wantWritten("w", false)
	b.append(l, "back", saga.Undoing)
	b.append(l, "end", saga.Undone)
}

func cancelSurvives(t *testing.T, b *bench) {
	b.begin(runID)
	if err := b.Journal.Cancel(t.Context(), runID, "ann"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if c := b.takeOver(runID).Head().Cancel; c == nil || c.Who != "ann" {
			t.Errorf("a take-over found cancel request %+v, want ann's", c)
		}
	}
}

func endedStays(t *testing.T, b *bench) {
	for i, p := range []saga.Phase{saga.Done, saga.Undone} {
		id := saga.ID(fmt.Sprintf("run-%d", i))
		b.begin(id)
		l := b.takeOver(id)
		b.append(l, "end", p)
		_, err := b.Journal.TakeOver(t.Context(), id)
		b.want(err, saga.ErrEnded, "TakeOver of a run that is "+p.String())
		b.want(b.Journal.Cancel(t.Context(), id, "ann"), saga.ErrEnded, "Cancel of a run that is "+p.String())
		refuse := func([]byte) (saga.Entry, error) { return saga.Entry{}, saga.ErrNotStuck } // as saga.Resumed decides
		b.want(b.Journal.Resume(t.Context(), id, "ann", refuse), saga.ErrEnded, "Resume of a run that is "+p.String())
		b.want(l.Append(t.Context(), saga.Entry{Record: []byte("more"), Phase: saga.Running}), saga.ErrFenced, "Append to a run that is "+p.String())
		b.wantRecord(id, "end")
	}
}

func stuckWaits(t *testing.T, b *bench) {
	for i, p := range []saga.Phase{saga.Running, saga.Undoing} {
		id := saga.ID(fmt.Sprintf("run-%d", i))
		b.begin(id)
		l := b.takeOver(id)
		b.append(l, "on", p)
		b.append(l, "stuck", saga.Stuck, b.Write("stuck-"+string(id)))
		_, err := b.Journal.TakeOver(t.Context(), id)
		b.want(err, saga.ErrStuck, "TakeOver of a stuck run")
		seen := []byte(nil)
		err = b.Journal.Resume(t.Context(), id, "ann", func(rec []byte) (saga.Entry, error) {
			seen = bytes.Clone(rec)
			return saga.Entry{Record: []byte("again"), Phase: p}, nil
		})
		if err != nil || string(seen) != "stuck" {
			t.Errorf("Resume = %v with the record %q, want nil and stuck", err, seen)
		}
		b.wantRecord(id, "again")
		next := b.takeOver(id)
		if string(next.Head().Record) != "again" {
			t.Errorf("the take-over after Resume found %q, want again", next.Head().Record)
		}
		b.append(next, "on", p)
		b.want(l.Append(t.Context(), saga.Entry{Record: []byte("stale"), Phase: p}), saga.ErrFenced, "Append by the worker that got stuck")
	}
}

func resumeOnlyStuck(t *testing.T, b *bench) {
	b.begin(runID)
	next := func(rec []byte) (saga.Entry, error) { // as saga.Resumed decides
		if string(rec) != "stuck" {
			return saga.Entry{}, saga.ErrNotStuck
		}
		return saga.Entry{Record: []byte("again"), Phase: saga.Running}, nil
	}
	b.want(b.Journal.Resume(t.Context(), runID, "ann", next), saga.ErrNotStuck, "Resume of a run that was begun")
	l := b.takeOver(runID)
	b.append(l, "on", saga.Running)
	b.want(b.Journal.Resume(t.Context(), runID, "ann", next), saga.ErrNotStuck, "Resume of a run under way")
	b.wantRecord(runID, "on")
	b.append(l, "more", saga.Running)
}

func resumeRefused(t *testing.T, b *bench) {
	b.begin(runID)
	b.append(b.takeOver(runID), "stuck", saga.Stuck)
	no := errors.New("no")
	err := b.Journal.Resume(t.Context(), runID, "ann", func([]byte) (saga.Entry, error) { return saga.Entry{}, no })
	b.want(err, no, "Resume with a function that refuses")
	_, err = b.Journal.TakeOver(t.Context(), runID)
	b.want(err, saga.ErrStuck, "TakeOver afterwards")
}

func illegalMove(t *testing.T, b *bench) {
	b.begin(runID)
	l := b.takeOver(runID)
	b.append(l, "back", saga.Undoing)
	for _, p := range []saga.Phase{saga.Running, saga.Done} {
		if err := l.Append(t.Context(), saga.Entry{Record: []byte("x"), Phase: p}); err == nil || errors.Is(err, saga.ErrFenced) {
			t.Errorf("Append from undoing to %s = %v, want a refusal", p, err)
		}
	}
	b.wantRecord(runID, "back")
}

func largeRecord(t *testing.T, b *bench) {
	b.begin(runID)
	l := b.takeOver(runID)
	big := string(bytes.Repeat([]byte{0xAB}, saga.MaxState+16<<10))
	b.append(l, big, saga.Running)
	b.wantRecord(runID, big)
}

func endedContext(t *testing.T, b *bench) {
	b.begin(runID)
	l := b.takeOver(runID)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Append(ctx, saga.Entry{Record: []byte("x"), Phase: saga.Running, Writes: []saga.Write{b.Write("w")}}); err == nil {
		t.Error("Append with an ended context = nil")
	}
	if err := b.Journal.Begin(ctx, "run-2", saga.Entry{Record: []byte("x"), Phase: saga.Running}); err == nil {
		t.Error("Begin with an ended context = nil")
	}
	b.wantRecord(runID, "first")
	b.wantWritten("w", false)
}

func openLists(t *testing.T, b *bench) {
	want := []saga.ID{"begun", "stuck", "under-way"}
	for _, id := range []saga.ID{"begun", "done", "stuck", "under-way"} {
		b.begin(id)
	}
	b.append(b.takeOver("done"), "end", saga.Done)
	b.append(b.takeOver("stuck"), "stuck", saga.Stuck)
	b.append(b.takeOver("under-way"), "on", saga.Undoing)
	var got []saga.ID
	for id, err := range b.Journal.Open(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, id)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("Open lists %v, want %v", got, want)
	}
	for _, err := range b.Journal.Open(t.Context()) {
		if err != nil {
			t.Error(err)
		}
		break // must not hang or panic
	}
}

// sagasRun runs sagas on the journal from several executors at the same time, which take the runs over from each
// other: each ends once, with its writes.
func sagasRun(t *testing.T, b *bench) {
	type state struct {
		Done int `msgpack:"done"`
	}
	step := func(n int) saga.Step[state] {
		return saga.Step[state]{
			Name: fmt.Sprintf("step-%d", n),
			Do: func(_ context.Context, run saga.Run, s *state) error {
				s.Done++
				run.Stage(b.Write(fmt.Sprintf("%s.%d", run.ID, n)))
				return nil
			},
			Undo: saga.Nothing[state],
		}
	}
	def := saga.Definition[state]{Name: "count", Version: 1, Steps: []saga.Step[state]{step(1), step(2), step(3)}}
	const runs, workers = 5, 3
	var all sync.WaitGroup
	for range workers {
		e := saga.New(b.Journal, &saga.Registry{}, quick())
		for i := range runs {
			all.Go(func() {
				id := saga.ID(fmt.Sprintf("run-%d", i))
				for {
					res, err := saga.Exec(t.Context(), e, def, id, state{})
					if errors.Is(err, saga.ErrFenced) {
						continue
					}
					if err != nil || res.State.Done != 3 || res.Status.Phase != saga.Done {
						t.Errorf("Exec(%s) = %s, %d steps, %v; want done, 3, nil", id, res.Status.Phase, res.State.Done, err)
					}
					return
				}
			})
		}
	}
	all.Wait()
	for i := range runs {
		for n := 1; n <= 3; n++ {
			b.wantWritten(fmt.Sprintf("run-%d.%d", i, n), true)
		}
	}
}
