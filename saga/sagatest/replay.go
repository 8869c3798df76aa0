package sagatest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/scoria-storage/scoria/saga"
)

// Journaled is a World that shows the journal of its operation and lets a test write to it. Replay needs one.
type Journaled interface {
	World

	// Head reads the operation's run.
	Head(ctx context.Context) (saga.Head, error)

	// TakeOver takes the operation over as a new worker, and drives nothing.
	TakeOver(ctx context.Context) (saga.Log, error)
}

// Replay goes on with journals that earlier releases wrote: a run that one of them left in the middle must end with the present code
// as it ended with theirs, and with the same effects. It fails when steps were renamed, removed or put in another order under
// the same version, when the definition of a version that may have runs is gone, when a decision (another try, the way back,
// stuck) or an undo is another one, and when what one step made is made by another one now.
//
// The files are <prefix>.v<version>.json, one a version, written by the first run of this function with that version (which then
// fails, so that the file is looked at and kept) and never edited. Where a version is retired its file goes, too.
func Replay(t *testing.T, newWorld func(t *testing.T) Journaled, prefix string) {
	t.Helper()
	ref := reference(t, func(t *testing.T) World { return newWorld(t) })
	if t.Failed() {
		return
	}
	r := &replay{ref: ref, newWorld: newWorld}
	file := fmt.Sprintf("%s.v%d.json", prefix, ref.version)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		r.write(t, file)
		t.Errorf("there was no %s: it is written. Look at it and keep it with the release", file)
	}
	files, err := filepath.Glob(prefix + ".v*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		js := readJournals(t, f)
		t.Logf("%s: %d positions", f, len(js.Positions))
		for i, pos := range js.Positions {
			t.Run(fmt.Sprintf("v%d/%d", js.Version, i+1), func(t *testing.T) {
				t.Parallel()
				r.play(t, js, pos)
			})
		}
	}
}

// journals are the positions of the runs of one version.
type journals struct {
	Name      string     `json:"name"`
	Version   int        `json:"version"`
	Positions []position `json:"positions"`
}

// position is where a worker left a run.
type position struct {
	Says   string   `json:"says"`           // what the record says, for people
	Faults []fault  `json:"faults"`         // what befell the run before
	Writes int      `json:"writes"`         // how often it wrote its journal
	Record []byte   `json:"record"`         // the journal
	There  []string `json:"there"`          // what the run had changed: + came, - went, ~ is another
	Ends   string   `json:"ends"`           // the phase in which it ends when nothing more befalls it
	Left   []string `json:"left,omitempty"` // what it had changed then
}

// fault is an error of one call.
type fault struct {
	Call  string `json:"call"` // do or undo
	Step  int    `json:"step"` // from 0
	Error string `json:"error"`
	After bool   `json:"after,omitempty"` // the call took effect
	Once  bool   `json:"once,omitempty"`
}

// faultErrors are those that a step may say.
var faultErrors = map[string]error{
	"retry": errFault, "unknown": saga.Unknown(errFault), "permanent": saga.Permanent(errFault), "unknown for good": saga.Unknown(saga.Permanent(errFault)),
}

type replay struct {
	ref      *ref
	newWorld func(t *testing.T) Journaled
}

// courses are runs that together come to every kind of position: each step in work, tried again, unknown, on the way back and stuck.
func (r *replay) courses() [][]fault {
	all := [][]fault{nil}
	for i, s := range r.ref.steps {
		lies := s.Pivot && !s.Undo // it does not say that it failed when it took effect
		all = append(all,
			[]fault{{Call: "do", Step: i, Error: "retry", After: true, Once: true}},
			[]fault{{Call: "do", Step: i, Error: "unknown", After: true, Once: true}},
			[]fault{{Call: "do", Step: i, Error: "permanent", After: !lies}})
		if lies && s.Tries() != saga.Forever {
			all = append(all, []fault{{Call: "do", Step: i, Error: "unknown for good", After: true}})
		}
	}
	trigger := r.ref.trigger()
	back := fault{Call: "do", Step: trigger, Error: "permanent", After: r.ref.steps[trigger].Undo}
	for i := range r.ref.steps {
		if r.ref.undos[i] {
			all = append(all,
				[]fault{back, {Call: "undo", Step: i, Error: "retry", Once: true}},
				[]fault{back, {Call: "undo", Step: i, Error: "permanent"}})
		}
	}
	return all
}

// write records every position once.
func (r *replay) write(t *testing.T, file string) {
	t.Helper()
	js := journals{Name: r.ref.name, Version: r.ref.version}
	seen := make(map[string]bool)
	for _, course := range r.courses() {
		for n := 1; ; n++ {
			w := r.newWorld(t)
			pos := position{Faults: course, Writes: n}
			if !r.record(t, w, &pos) {
				break
			}
			if key := timeless(t, pos.Record); key != "" && !seen[key] {
				seen[key] = true
				r.finish(t, w, &pos)
				js.Positions = append(js.Positions, pos)
			}
		}
	}
	b, err := json.MarshalIndent(js, "", " ")
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, append(b, '\n'), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// record brings the world to the position; false if the run ends before.
func (r *replay) record(t *testing.T, w Journaled, pos *position) bool {
	t.Helper()
	at := r.submit(t, w, nil)
	met := at.drive(pos, func(saga.Call) bool { return true })
	if met.Action == 0 || met.Phase.Ended() {
		return false
	}
	head, err := w.Head(t.Context())
	if err != nil {
		t.Fatalf("read the journal: %v", err)
	}
	st, err := head.Status()
	if err != nil {
		t.Fatal(err)
	}
	pos.Record, pos.Says, pos.There = head.Record, st.Phase.String()+", "+tell(st), at.changes()
	return true
}

// finish lets the run end, and notes how.
func (r *replay) finish(t *testing.T, w Journaled, pos *position) {
	t.Helper()
	st := goOn(t, w)
	pos.Ends, pos.Left = st.Phase.String(), r.ref.before.changes(snapshot(t, w))
}

// timeless is a record without what differs in the next run; "" for one that only says that a step was tried once more: how often it
// is, may change.
func timeless(t *testing.T, record []byte) string {
	t.Helper()
	if st, err := saga.Fold(record); err != nil || st.Tried > 1 && st.Phase != saga.Stuck {
		return ""
	}
	var m map[string]any
	if err := msgpack.Unmarshal(record, &m); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"since", "started", "last", "epoch", "failed", "cause", "stuck"} {
		delete(m, key)
	}
	return fmt.Sprint(m)
}

func readJournals(t *testing.T, file string) journals {
	t.Helper()
	b, err := os.ReadFile(file)
	var js journals
	if err == nil {
		err = json.Unmarshal(b, &js)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return js
}

// play brings a fresh world to the position, puts the recorded journal in the place of its own, and lets the run end.
func (r *replay) play(t *testing.T, js journals, pos position) {
	recorded, err := saga.Fold(pos.Record)
	if err != nil {
		t.Fatalf("the record cannot be read: %v", err)
	}
	w := r.newWorld(t)
	at := r.submit(t, w, js.beginning(r.ref.version))
	if recorded.Phase == saga.Stuck {
		pos.Writes = 0
	}
	// A stuck run cannot be taken over, so the recorded entry is written in place of the one that makes it stuck.
	met := at.drive(&pos, func(c saga.Call) bool { return c.Phase != saga.Stuck })
	if met.Action == 0 {
		t.Fatalf("the run does not come to: %s", pos.Says)
	}
	if met.Phase != recorded.Phase {
		t.Fatalf("after step %s the run is %s; it was: %s", met.Step.Name, met.Phase, pos.Says)
	}
	if there := at.changes(); !slices.Equal(there, pos.There) {
		t.Errorf("the run has come to: %s, and has changed\n%q; it had changed\n%q", pos.Says, there, pos.There)
	}
	log, err := w.TakeOver(t.Context())
	if err == nil {
		err = log.Append(t.Context(), saga.Entry{Record: pos.Record, Phase: recorded.Phase})
	}
	if err != nil {
		t.Fatalf("write the recorded journal: %v", err)
	}
	st := goOn(t, w)
	if st.Phase.String() != pos.Ends {
		t.Fatalf("it was: %s, and is %s now, %s; it ended %s", pos.Says, st.Phase, tell(st), pos.Ends)
	}
	if left := at.changes(); !slices.Equal(left, pos.Left) {
		t.Errorf("it was: %s, ended %s and has changed\n%q; it had changed\n%q", pos.Says, st.Phase, left, pos.Left)
	}
	r.requireEnd(t, js, snapshot(t, w), st.Phase)
}

// requireEnd compares with a run of the same version that met nothing, or with what the world expects of one that was undone.
func (r *replay) requireEnd(t *testing.T, js journals, got Snapshot, phase saga.Phase) {
	t.Helper()
	want := r.ref.undone
	switch {
	case phase == saga.Done && js.Version == r.ref.version:
		want = r.ref.done
	case phase == saga.Done:
		w := r.newWorld(t)
		r.submit(t, w, js.beginning(r.ref.version))
		goOn(t, w)
		want = snapshot(t, w)
	}
	if d := want.Diff(got); d != "" {
		t.Errorf("the run is %s, but the world is not as it should be:%s", phase, d)
	}
}

// beginning is the record of a run of this version that has done nothing yet; nil where a run begins with this version by itself.
func (js journals) beginning(present int) []byte {
	if js.Version == present {
		return nil
	}
	for _, pos := range js.Positions {
		if st, err := saga.Fold(pos.Record); err == nil && st.Phase == saga.Running && st.Index == 0 && !st.Unknown {
			return pos.Record
		}
	}
	return nil
}

// onTheWay is a world whose operation was submitted.
type onTheWay struct {
	t      *testing.T
	w      Journaled
	before Snapshot
}

// submit makes the operation exist, with a journal if there is one to begin with.
func (r *replay) submit(t *testing.T, w Journaled, record []byte) *onTheWay {
	t.Helper()
	at := &onTheWay{t: t, w: w, before: snapshot(t, w)}
	if err := w.Submit(t.Context()); err != nil {
		t.Fatalf("submit: %v", err)
	}
	if record == nil {
		return at
	}
	log, err := w.TakeOver(t.Context())
	if err == nil {
		err = log.Append(t.Context(), saga.Entry{Record: record, Phase: saga.Running})
	}
	if err != nil {
		t.Fatalf("begin with the recorded journal: %v", err)
	}
	return at
}

func (at *onTheWay) changes() []string { return at.before.changes(snapshot(at.t, at.w)) }

// drive runs the operation until its journal was written as often as the position says (0: until it gets stuck), and leaves it there as
// a crash does. It returns that write, of which makes says whether it is made.
func (at *onTheWay) drive(pos *position, makes func(saga.Call) bool) (met saga.Call) {
	at.t.Helper()
	const enough = 100 // more often no step is tried before the run is stuck
	writes, fired := 0, make([]int, len(pos.Faults))
	st, err := at.w.Drive(at.t.Context(), quick(), saga.WithAround(func(ctx context.Context, c saga.Call, next call) error {
		if c.Action == saga.Writing {
			if writes++; writes != pos.Writes && (pos.Writes > 0 || c.Phase != saga.Stuck) {
				return next(ctx)
			}
			if makes(c) {
				if err := next(ctx); err != nil {
					return err
				}
			}
			met = c
			return crash
		}
		for i, f := range pos.Faults {
			if !f.meets(c) || f.Once && fired[i] > 0 {
				continue
			}
			if fired[i]++; fired[i] > enough {
				return saga.Leave(fmt.Errorf("step %s is tried for ever", c.Step.Name))
			}
			return f.happen(ctx, next)
		}
		return next(ctx)
	}))
	if met.Action == 0 && err != nil || err != nil && !errors.Is(err, errCrash) {
		at.t.Fatalf("the present code does not come to: %s: phase %s, %s: %v", pos.Says, st.Phase, tell(st), err)
	}
	return met
}

func (f fault) meets(c saga.Call) bool { return c.Action.String() == f.Call && c.Index == f.Step }

func (f fault) happen(ctx context.Context, next call) error {
	if f.After {
		if err := next(ctx); err != nil {
			return err
		}
	}
	return faultErrors[f.Error]
}

// goOn lets the run end, with a person's help if it is stuck.
func goOn(t *testing.T, w World) saga.Status {
	t.Helper()
	st, err := w.Drive(t.Context(), quick())
	if err == nil && st.Phase == saga.Stuck {
		if err := w.Resume(t.Context()); err != nil {
			t.Fatalf("resume: %v", err)
		}
		st, err = w.Drive(t.Context(), quick())
	}
	if err != nil {
		t.Fatalf("the present code does not go on with it: %v", err)
	}
	return st
}

// changes names what differs in got: + for what came, - for what went, ~ for what is another.
func (s Snapshot) changes(got Snapshot) []string {
	var all []string
	for name, is := range got {
		if was, there := s[name]; !there {
			all = append(all, "+"+name)
		} else if was != is {
			all = append(all, "~"+name)
		}
	}
	for _, name := range slices.Collect(maps.Keys(s)) {
		if _, there := got[name]; !there {
			all = append(all, "-"+name)
		}
	}
	slices.Sort(all)
	return all
}
