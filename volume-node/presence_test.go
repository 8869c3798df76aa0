package volumenode_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	volumenode "github.com/scoria-storage/scoria/volume-node"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// logged is a log that may be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// lines are those that have the text.
func (l *logged) lines(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// serves is what the one process of node n1 says of the backend.
func (s *site) serves(backend string) (messages.Serves, bool) {
	s.t.Helper()
	var out messages.Serving
	s.ask(messages.ProcessSubject("n1", s.processes("n1")[0], messages.NodeVerbServing), nil, &out)
	for _, b := range out.Backends {
		if b.Backend == backend {
			return b, true
		}
	}
	return messages.Serves{}, false
}

// While the directory of a backend is away its operations wait, whatever they are, and go on when it is back. It is said once that
// it went, and once that it is back.
func TestOperationsWaitWhileTheStorageIsAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	log, d := &logged{}, s.deps()
	d.Log = slog.New(slog.NewTextHandler(log, nil))
	s.start(s.config("n1", "local=file:path=DIR/local", "other=file:path=DIR/other"), d)
	id := func(n int) block.VolumeID { return block.VolumeID(fmt.Sprintf("11111111-0000-4000-8000-%012d", n)) }
	for n := range 3 {
		s.createOn("local", id(n))
	}
	dir, away := filepath.Join(s.dir, "local"), filepath.Join(s.dir, "away")
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	ops := []block.OperationID{s.submit(&messages.DeleteVolume{Volume: id(0)})}
	s.eventually("the process says that the storage is away", func() bool {
		b, ok := s.serves("local")
		return ok && strings.Contains(b.Away, "directory "+filepath.Join(dir, "volumes")+" is not the one that was opened")
	})
	if b, ok := s.serves("other"); !ok || b.Away != "" {
		t.Errorf("the other backend: %+v, %v; want it there", b, ok)
	}
	s.createOn("other", id(3))
	ops = append(ops, s.submit(&messages.ExtendVolume{Volume: id(1), SizeGiB: 2}),
		s.submit(&messages.AttachVolume{Volume: id(2), Attachment: att1, Connector: []byte(`{}`)}))
	s.eventually("the operations are at work", func() bool {
		return !slices.ContainsFunc(ops, func(op block.OperationID) bool {
			rec, err := s.Locks.Record(t.Context(), string(op))
			return err != nil || rec.Phase != kvlock.Running
		})
	})
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if rec := s.ended(op); rec.Phase != kvlock.Done {
			t.Errorf("operation %s is %s, want done: %s", op, rec.Phase, log.lines(string(op)))
		}
	}
	for _, want := range []string{"the storage of the backend is away", "the storage of the backend is back"} {
		s.eventually(want, func() bool { return len(log.lines(want)) > 0 })
	}
	if lines := log.lines("is not the one that was opened"); len(lines) != 1 {
		t.Errorf("it was said %d times that the storage is away, want once:\n%s", len(lines), strings.Join(lines, ""))
	}
	if b, _ := s.serves("local"); b.Away != "" {
		t.Errorf("the process says that the storage is away: %s", b.Away)
	}
}

// A node that stops does not wait for a storage that is away.
func TestAStopDoesNotWaitForAStorageThatIsAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.config("n1", "local=file:path=DIR/local")
	c.StopLimit = 10 * time.Minute
	stop := s.start(c, s.deps())
	s.do(&messages.CreateVolume{Volume: vol1, SizeGiB: 1})
	dir, away := filepath.Join(s.dir, "local"), filepath.Join(s.dir, "away")
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	op := s.submit(&messages.DeleteVolume{Volume: vol1})
	s.eventually("the process says that the storage is away", func() bool { b, ok := s.serves("local"); return ok && b.Away != "" })
	stop() // in less time than steps may go on
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	s.start(c, s.deps())
	if rec := s.ended(op); rec.Phase != kvlock.Done {
		t.Errorf("operation is %s, want done", rec.Phase)
	}
}

// createOn makes a volume on a backend by its name.
func (s *site) createOn(backend string, id block.VolumeID) {
	s.t.Helper()
	const plenty = 1 << 50
	room := func(backend string, total int64) {
		operationstest.Put(s.t, s.World, records.PoolKey(backend), func(p *records.Pool) { p.TotalBytes = total })
	}
	for _, other := range []string{"local", "other"} { // admission takes the one with the most room
		if other != backend {
			room(other, 0)
			defer room(other, plenty)
		}
	}
	room(backend, plenty)
	s.do(&messages.CreateVolume{Volume: id, SizeGiB: 1})
	if v, _ := operationstest.Get[block.Volume](s.t, s.World, records.VolumeKey(id)); v.Backend != backend {
		s.t.Fatalf("volume %s is on backend %s, want %s", id, v.Backend, backend)
	}
}

// A backend that was forgotten while its process could not be asked is registered again, with its pool.
func TestAProcessRegistersItsBackendAgainThatWasForgotten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n, err := volumenode.New(t.Context(), s.config("n1", "local=file:path=DIR/local"), s.deps())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	was := s.backend("local")
	keys := []string{records.BackendKey("local"), records.StorageKey(was.Identity), records.PoolKey("local")}
	_, err = s.Store.Update(t.Context(), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		for _, key := range keys {
			e, err := snap.Get(key)
			if err != nil {
				return err
			}
			tx.Delete(key, e.Revision)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Report(t.Context())
	if is := s.backend("local"); is.Identity != was.Identity || was.Identity == "" {
		t.Errorf("the backend is %+v, it was %+v", is, was)
	}
	if p, there := operationstest.Get[records.Pool](t, s.World, records.PoolKey("local")); !there || p.TotalBytes <= 0 {
		t.Errorf("the pool is %+v, %v", p, there)
	}
}

// A start writes the backend's record although nothing changed, and answers questions before: see who forgets backends.
func TestAStartWritesTheBackendsRecordAndAnswersBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.config("n1", "fake=null")
	revision := func() kvtx.Revision {
		t.Helper()
		e, err := s.Store.Get(t.Context(), records.BackendKey("fake"))
		if err != nil {
			t.Fatal(err)
		}
		return e.Revision
	}
	s.start(c, s.deps())()
	was := revision()
	n, err := volumenode.New(t.Context(), c, s.deps())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	if is := revision(); is <= was {
		t.Errorf("revision %d after another start, %d before: a commit that rests on the old one would be made", is, was)
	}
	if _, ok := s.serves("fake"); !ok { // the node does not run yet
		t.Error("the process does not say that it serves the backend")
	}
}

// Who waits for a storage that is away leaves its place to others: a host is cut off, which needs no storage.
func TestADetachDoesNotWaitForAStorageThatIsAway(t *testing.T) {
	t.Parallel()
	s, e := newSite(t), newExports(t)
	c := s.config("n1", "local=file:path=DIR/local")
	c.Workers = 1
	s.start(c, s.with(e))
	vol2 := block.VolumeID("11111111-0000-4000-8000-000000000002")
	for _, v := range []block.VolumeID{vol1, vol2} {
		s.do(&messages.CreateVolume{Volume: v, SizeGiB: 1})
	}
	s.do(&messages.AttachVolume{Volume: vol2, Attachment: att1, Connector: []byte(`{}`)})
	dir, away := filepath.Join(s.dir, "local"), filepath.Join(s.dir, "away")
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	waits := s.submit(&messages.DeleteVolume{Volume: vol1})
	s.eventually("the process says that the storage is away", func() bool { b, ok := s.serves("local"); return ok && b.Away != "" })
	s.do(&messages.DetachVolume{Attachment: att1})
	if !e.has() {
		t.Error("the export is there")
	}
	if rec, err := s.Locks.Record(t.Context(), string(waits)); err != nil || rec.Phase != kvlock.Running {
		t.Errorf("the deletion is %s, %v; want it running", rec.Phase, err)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	if rec := s.ended(waits); rec.Phase != kvlock.Done {
		t.Errorf("the deletion is %s", rec.Phase)
	}
}
