package view_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// world is what the bucket says, read with a scan and derived from the lock records.
type world struct {
	volumes     map[string]string
	snapshots   map[string]string
	attachments map[string]string
	operations  map[string]string
	quotas      map[string]records.Usage
	pools       []records.Pool
	locks       []string
}

// describe of rows and of records must be equal.
func describeRow(rev kvtx.Revision, status any, holder *messages.Holder, readers []messages.Holder) string {
	h := "nobody"
	if holder != nil {
		h = fmt.Sprintf("%s %s", holder.Operation, holder.Kind)
	}
	var r []string
	for _, x := range readers {
		r = append(r, fmt.Sprintf("%s %s %s", x.Operation, x.Kind, x.Mode))
	}
	slices.Sort(r)
	return fmt.Sprintf("@%d %v held by %s, read by %v", rev, status, h, r)
}

func (s *stack) scan() world {
	s.t.Helper()
	w := world{volumes: map[string]string{}, snapshots: map[string]string{}, attachments: map[string]string{}, operations: map[string]string{},
		quotas: map[string]records.Usage{}}
	entries := map[string]kvtx.Entry{}
	if err := s.store.Scan(s.t.Context(), ">", func(e kvtx.Entry) error { entries[e.Key] = e; return nil }); err != nil {
		s.t.Fatal(err)
	}
	kinds, stuck := map[string]records.Operation{}, map[string]bool{}
	for key, e := range entries {
		if !strings.HasPrefix(key, "op.") {
			continue
		}
		rec := must(kvlock.DecodeRecord(e))
		op := must(records.Decode[records.Operation](must(sagakv.DecodePayload(rec.Payload)).Request))
		kinds[rec.Owner], stuck[rec.Owner] = op, rec.Phase == kvlock.Stuck
		w.operations[rec.Owner] = fmt.Sprintf("@%d %s %s ended %v", rec.Revision, op.Kind, rec.Phase, !rec.Live())
	}
	held := func(key string) (block.Holder, *messages.Holder, []messages.Holder) {
		lock := must(kvlock.DecodeLock(kvtx.Entry{Key: kvlock.LockKey(key), Value: entries[kvlock.LockKey(key)].Value, Exists: entries[kvlock.LockKey(key)].Exists}))
		var readers []messages.Holder
		for _, h := range lock.Holders {
			x := messages.Holder{Operation: block.OperationID(h.Owner), Kind: kinds[h.Owner].Kind, Mode: lock.Mode.String()}
			if lock.Mode == kvlock.ModeExclusive {
				return block.Holder{Operation: x.Operation, Kind: x.Kind, Stuck: stuck[h.Owner]}, &x, nil
			}
			readers = append(readers, x)
		}
		return block.Holder{}, nil, readers
	}
	for key, e := range entries {
		class, name := records.Classify(key)
		switch class {
		case records.ClassVolume:
			v := must(records.Decode[block.Volume](e.Value))
			holder, h, readers := held(key)
			if a, _, _ := held(records.AttachKey(v.ID)); a.Kind != "" {
				for i, ref := range v.Attachments {
					if string(ref.ID) == kinds[string(a.Operation)].Resource {
						v.Attachments[i].Status = (&block.Attachment{Status: ref.Status}).ShownStatus(a)
					}
				}
			}
			w.volumes[name] = describeRow(e.Revision, v.ShownStatus(holder, block.Holder{}), h, readers)
		case records.ClassSnapshot:
			n := must(records.Decode[block.Snapshot](e.Value))
			holder, h, readers := held(key)
			w.snapshots[name] = describeRow(e.Revision, n.ShownStatus(holder), h, readers)
		case records.ClassAttachment:
			a := must(records.Decode[block.Attachment](e.Value))
			holder, h, _ := held(records.AttachKey(a.Volume))
			if holder.Kind != "" && kinds[string(holder.Operation)].Resource != name {
				holder, h = block.Holder{}, nil
			}
			w.attachments[name] = describeRow(e.Revision, a.ShownStatus(holder), h, nil)
		case records.ClassQuota:
			q := must(records.Decode[records.Quota](e.Value))
			w.quotas[q.Project] = w.quotas[q.Project].Add(q.Use)
		case records.ClassCredit:
			c := must(records.Decode[records.Credit](e.Value))
			w.quotas[c.Project] = w.quotas[c.Project].Sub(c.Back)
		case records.ClassPool:
			w.pools = append(w.pools, must(records.Decode[records.Pool](e.Value)))
		case records.ClassBackend, records.ClassNode, records.ClassOther:
		}
		if k, ok := strings.CutPrefix(key, "lock."); ok {
			w.locks = append(w.locks, describeLock(must(kvlock.DecodeLock(e)), k))
		}
	}
	slices.Sort(w.locks)
	return w
}

func describeLock(l kvlock.Lock, key string) string {
	var owners []string
	for _, h := range l.Holders {
		owners = append(owners, h.Owner)
	}
	slices.Sort(owners)
	return fmt.Sprintf("%s %s %v", key, l.Mode, owners)
}

// shown is what a view says of the same.
func shown(v *view.View) world {
	w := world{volumes: map[string]string{}, snapshots: map[string]string{}, attachments: map[string]string{}, operations: map[string]string{},
		quotas: map[string]records.Usage{}, pools: v.Pools()}
	for r := range v.Volumes("") {
		w.volumes[string(r.ID)] = describeRow(r.Revision, r.Shown, r.Holder, r.Readers)
		_, w.quotas[r.Project] = v.Quota(r.Project)
	}
	for r := range v.Snapshots("") {
		w.snapshots[string(r.ID)] = describeRow(r.Revision, r.Shown, r.Holder, r.Readers)
	}
	for r := range v.Attachments("") {
		w.attachments[string(r.ID)] = describeRow(r.Revision, r.Shown, r.Holder, nil)
	}
	for r := range v.Operations("") {
		w.operations[string(r.ID)] = fmt.Sprintf("@%d %s %s ended %v", r.Revision, r.Kind, r.Phase, r.Ended)
	}
	for l := range v.Locks() {
		w.locks = append(w.locks, describeLock(l, l.Key))
	}
	slices.Sort(w.locks)
	return w
}

func (s *stack) compare(what string, v *view.View) {
	s.t.Helper()
	want := s.scan()
	got := shown(v)
	for p := range want.quotas {
		_, got.quotas[p] = v.Quota(p)
	}
	for i := range reflect.TypeFor[world]().NumField() {
		name := reflect.TypeFor[world]().Field(i).Name
		g, w := fmt.Sprint(field(got, i)), fmt.Sprint(field(want, i))
		if g != w {
			s.t.Errorf("%s: %s:\n view %s\n scan %s", what, name, g, w)
		}
	}
	requireOrder(s.t, v)
}

func field(w world, i int) any {
	switch i {
	case 0:
		return w.volumes
	case 1:
		return w.snapshots
	case 2:
		return w.attachments
	case 3:
		return w.operations
	case 4:
		return w.quotas
	case 5:
		return w.pools
	default:
		return w.locks
	}
}

// requireOrder fails the test unless lists are newest first, and those of the projects together are the whole.
func requireOrder(t testing.TB, v *view.View) {
	t.Helper()
	newest := func(a, b *view.Volume) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	}
	all := slices.Collect(v.Volumes(""))
	if !slices.IsSortedFunc(all, newest) {
		t.Error("volumes of all projects are not newest first")
	}
	n := 0
	for _, p := range []string{"p1", "p10", "p2"} { // one is the beginning of the other
		mine := slices.Collect(v.Volumes(p))
		if !slices.IsSortedFunc(mine, newest) || slices.ContainsFunc(mine, func(r *view.Volume) bool { return r.Project != p }) {
			t.Errorf("volumes of %s are not its own, newest first", p)
		}
		n += len(mine)
	}
	if n != len(all) {
		t.Errorf("%d volumes in the projects, %d in all", n, len(all))
	}
	for op := range v.Live() {
		if op.Ended {
			t.Errorf("operation %s has ended and is listed as live", op.ID)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// After random histories, with several submitters at once, failures, stuck and abandoned operations, deletes and a restart of the server, the
// view and one that is started anew say what a scan says.
func TestViewEqualsAScanOfTheBucket(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := newStack(t)
	for phase := range 3 {
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() { s.history(rand.New(rand.NewPCG(seed, uint64(phase*10+g))), 30) })
		}
		wg.Wait()
		if phase == 1 {
			s.srv.Restart(t)
			s.newVolume("p1")
		}
		s.settle()
		s.compare(fmt.Sprintf("phase %d", phase), s.view)
		s.compare(fmt.Sprintf("phase %d, started anew", phase), s.run())
	}
}

// settle waits until the view has what was written last.
func (s *stack) settle() {
	s.t.Helper()
	rev := s.put(1, func(int) string { return records.NodeKey("mark-" + newID()) }, func(int) []byte { return records.Encode(records.Node{Name: "mark"}) })
	if err := s.view.Wait(s.t.Context(), rev); err != nil {
		s.t.Fatal(err)
	}
}

// history submits random requests, most of which are refused, and ends some of the accepted ones in random ways.
func (s *stack) history(rnd *rand.Rand, steps int) {
	for range steps {
		project := []string{"p1", "p10", "p2"}[rnd.IntN(3)]
		caller := admit.Caller{Project: project, User: "u", Admin: true}
		acc, err := s.admit.Submit(s.t.Context(), admit.Submission{Caller: caller, Request: s.request(rnd, project)})
		if err != nil {
			if e, ok := errors.AsType[*messages.Error](err); !ok || e.Code == messages.CodeInternal {
				s.t.Errorf("submit: %v", err)
			}
			continue
		}
		switch n := rnd.IntN(20); {
		case n < 12:
			s.end(acc.Operation, admittest.Succeed)
		case n < 14:
			if kind := s.kind(acc); kind != block.VolumeDetach { // which never fails
				s.end(acc.Operation, admittest.Fail)
			}
		case n < 16:
			s.end(acc.Operation, admittest.Stick)
		case n < 17:
			s.end(acc.Operation, admittest.Stick)
			if err := s.admit.Abandon(s.t.Context(), caller, acc.Operation, "test"); err != nil {
				s.t.Errorf("abandon: %v", err)
			}
		}
	}
}

func (s *stack) kind(acc admit.Accepted) block.Kind {
	op, err := s.view.Lookup(s.t.Context(), acc.Operation)
	if err != nil {
		s.t.Error(err)
		return ""
	}
	return op.Kind
}

func (s *stack) request(rnd *rand.Rand, project string) messages.Request {
	v := pick(rnd, slices.Collect(s.view.Volumes(project)))
	n := pick(rnd, slices.Collect(s.view.Snapshots(project)))
	a := pick(rnd, slices.Collect(s.view.Attachments("")))
	k := rnd.IntN(9)
	switch {
	case v == nil || k < 2:
		return &messages.CreateVolume{SizeGiB: 1}
	case k == 2:
		return &messages.CreateSnapshot{Volume: v.ID, AllowAttached: true}
	case k == 3 && n != nil:
		return &messages.CreateVolume{FromSnapshot: n.ID}
	case k == 4 && n != nil:
		return &messages.DeleteSnapshot{Snapshot: n.ID}
	case k == 5 && a != nil:
		return &messages.DetachVolume{Attachment: a.ID}
	case k == 6:
		return &messages.AttachVolume{Volume: v.ID}
	case k == 7:
		return &messages.ExtendVolume{Volume: v.ID, SizeGiB: v.SizeGiB + 1, AllowAttached: true}
	case k == 8 && len(v.Snapshots) > 0:
		return &messages.RevertVolume{Volume: v.ID, Snapshot: v.Snapshots[len(v.Snapshots)-1]}
	}
	return &messages.DeleteVolume{Volume: v.ID}
}

func pick[T any](rnd *rand.Rand, all []*T) *T {
	if len(all) == 0 {
		return nil
	}
	return all[rnd.IntN(len(all))]
}
