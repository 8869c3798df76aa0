package volumenode_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	volumenode "github.com/scoria-storage/scoria/volume-node"
	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/control"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
	"github.com/scoria-storage/scoria/volume-node/export/launch"
	"github.com/scoria-storage/scoria/volume-node/export/server"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// The earlier attachment has the later ID: what is restored in the order of IDs meets the lower revision last.
const (
	earlier = block.AttachmentID("ffffffff-0000-4000-8000-000000000001")
	later   = block.AttachmentID("33333333-0000-4000-8000-000000000002")
)

// exports is an export server whose state directory a test may lose.
type exports struct {
	*control.Client
	t    *testing.T
	dir  string
	stop func()
	// lists counts how often the exports were asked for.
	lists atomic.Int64
}

func (e *exports) List(ctx context.Context) ([]export.Exported, error) {
	defer e.lists.Add(1)
	return e.Client.List(ctx)
}

func newExports(t *testing.T) *exports {
	t.Helper()
	e := &exports{t: t, dir: exporttest.ShortDir(t)}
	client, err := control.New(control.Config{
		StateDir: e.dir,
		Start:    func(ctl.Paths) (*launch.Process, error) { return nil, errors.New("the test starts it") },
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Client = client
	e.run()
	t.Cleanup(func() { client.Close(); e.stop() })
	return e
}

func (e *exports) run() {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, server.Config{StateDir: e.dir, Ready: func(ctl.Paths) { close(ready) }})
	}()
	e.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			e.t.Errorf("export server: %v", err)
		}
	}
	<-ready
}

// lose ends the server, removes all that it keeps, and starts it again.
func (e *exports) lose() {
	e.t.Helper()
	e.stop()
	if err := os.RemoveAll(e.dir); err != nil {
		e.t.Fatal(err)
	}
	e.run()
}

func (e *exports) has(attachments ...block.AttachmentID) bool {
	e.t.Helper()
	all, err := e.Client.List(e.t.Context()) // not counted
	if err != nil {
		e.t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, x := range all {
		found[x.Attachment] = x.Connection.Bytes == 1<<30
	}
	for _, a := range attachments {
		if !found[string(a)] {
			return false
		}
	}
	return len(all) == len(attachments)
}

// attachedTwice is a site with a volume that one instance has on two hosts, and whose export server has lost all.
func attachedTwice(t *testing.T) (*site, *exports, volumenode.Config) {
	t.Helper()
	s, e := newSite(t), newExports(t)
	c := s.config("n1", "local=file:path=DIR/local")
	stop := s.start(c, s.with(e))
	s.do(&messages.CreateVolume{Volume: vol1, SizeGiB: 1})
	for _, a := range []block.AttachmentID{earlier, later} {
		s.do(&messages.AttachVolume{Volume: vol1, Attachment: a, Instance: "i1", Connector: []byte(`{}`)})
		if _, err := s.admitter().CompleteAttachment(t.Context(), admit.Caller{Project: project, User: "u1"}, a); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	e.lose()
	if !e.has() {
		t.Fatal("the export server has lost nothing")
	}
	e.lists.Store(0)
	return s, e, c
}

func (s *site) with(e export.Exporter) volumenode.Deps {
	d := s.deps()
	d.Exporter = e
	return d
}

func TestBothExportsOfAVolumeAreRestored(t *testing.T) {
	t.Parallel()
	s, e, c := attachedTwice(t)
	s.start(c, s.with(e))
	s.eventually("both exports restored", func() bool { return e.has(earlier, later) })
	s.do(&messages.DetachVolume{Attachment: earlier}) // its fence is above the restored one
	if !e.has(later) {
		t.Error("after the detach the other export is not alone")
	}
}

// An operation that has a higher fence with the export server, because it came before the restore, says nothing of the
// other attachments.
func TestAnExportIsRestoredAfterAnotherOneOfItsVolumeChanged(t *testing.T) {
	t.Parallel()
	s, e, c := attachedTwice(t)
	src := export.Removal{Attachment: "other", Volume: string(vol1), Operation: "other", Fence: export.Fence{Rev: s.revision() - 1}}
	if err := e.Unexport(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	s.start(c, s.with(e))
	s.eventually("both exports restored", func() bool { return e.has(earlier, later) })
}

// That the export server has seen a higher fence, of an operation that came in between, does not mean that the export is there.
func TestARestoreThatIsFencedIsTriedAgain(t *testing.T) {
	t.Parallel()
	s, e, c := attachedTwice(t)
	const ahead = 500 // more than a start writes
	fence := export.Fence{Era: 1, Rev: s.revision() + ahead}
	if err := e.Unexport(t.Context(), export.Removal{Attachment: "other", Volume: string(vol1), Operation: "other", Fence: fence}); err != nil {
		t.Fatal(err)
	}
	s.start(c, s.with(e))
	s.eventually("a look at the exports, and another one", func() bool { return e.lists.Load() >= 2 })
	if !e.has() {
		t.Error("an export was restored with a fence below the one that was seen")
	}
	for i := 0; s.revision() <= fence.Rev; i++ {
		operationstest.Put(t, s.World, records.QuotaKey(project), func(q *records.Quota) { q.Project, q.Use.GiB = project, block.GiB(i) })
	}
	s.eventually("both exports restored", func() bool { return e.has(earlier, later) })
}

func (s *site) revision() uint64 {
	s.t.Helper()
	info, err := s.Store.Stream().Info(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return info.State.LastSeq
}

// What an operation does to the attachments at this moment is waited for; what a stuck one has is left to it.
func TestExportsAreNotRestoredAgainstAnOperation(t *testing.T) {
	t.Parallel()
	s, e, c := attachedTwice(t)
	const op = "99999999-0000-4000-8000-000000000001"
	g, err := s.Locks.TryAcquire(t.Context(), op, nil, kvlock.Exclusive(records.AttachKey(vol1)))
	if err != nil {
		t.Fatal(err)
	}
	operationstest.Put(t, s.World, records.AttachmentKey(later), func(a *block.Attachment) { a.LastOperation = op })
	s.start(c, s.with(e))
	s.eventually("a look at the exports, and another one", func() bool { return e.lists.Load() >= 2 })
	if !e.has() {
		t.Error("an export was restored while an operation changes the volume's attachments")
	}
	if _, err := s.Locks.Save(t.Context(), g, kvlock.Stuck, nil); err != nil {
		t.Fatal(err)
	}
	s.eventually("the export that the stuck operation has not, alone", func() bool { return e.has(earlier) })
}

// An extend that got stuck, or was given up, after the file has grown leaves the volume larger than its record says. A file that
// was cut is another matter: zeros must not stand for what was lost.
func TestAnExportIsRestoredWithTheSizeThatItsVolumeMayHave(t *testing.T) {
	t.Parallel()
	s, e, c := attachedTwice(t)
	path := filepath.Join(s.dir, "local", "volumes", string(vol1))
	if err := os.Truncate(path, 100<<20); err != nil {
		t.Fatal(err)
	}
	stop := s.start(c, s.with(e))
	s.eventually("a look at the exports, and another one", func() bool { return e.lists.Load() >= 2 })
	if !e.has() {
		t.Error("an export was restored of a file that was cut")
	}
	stop()
	if err := os.Truncate(path, 2<<30); err != nil {
		t.Fatal(err)
	}
	operationstest.Put(t, s.World, records.VolumeKey(vol1), func(v *block.Volume) { v.ReservedGiB = 2 })
	s.start(c, s.with(e))
	s.eventually("both exports restored with what the extend has made", func() bool {
		all, err := e.Client.List(t.Context())
		return err == nil && len(all) == 2 && all[0].Connection.Bytes == 2<<30 && all[1].Connection.Bytes == 2<<30
	})
}

// A storage that is away, which its backend says, is no reason not to say why something else is not restored.
func TestAStorageThatIsAwayDoesNotHideWhyOtherExportsAreNotRestored(t *testing.T) {
	t.Parallel()
	s, e := newSite(t), newExports(t)
	c := s.config("n1", "local=file:path=DIR/local", "other=file:path=DIR/other")
	stop := s.start(c, s.with(e))
	vol2 := block.VolumeID("11111111-0000-4000-8000-000000000002")
	for backend, v := range map[string]block.VolumeID{"local": vol1, "other": vol2} {
		s.createOn(backend, v)
	}
	s.do(&messages.AttachVolume{Volume: vol1, Attachment: earlier, Connector: []byte(`{}`)})
	s.do(&messages.AttachVolume{Volume: vol2, Attachment: later, Connector: []byte(`{}`)})
	stop()
	e.lose()
	// The export server has seen a fence that is ahead.
	fence := export.Fence{Era: 1, Rev: s.revision() + 10_000}
	if err := e.Unexport(t.Context(), export.Removal{Attachment: "other", Volume: string(vol2), Operation: "other", Fence: fence}); err != nil {
		t.Fatal(err)
	}
	log, d := &logged{}, s.with(e)
	d.Log = slog.New(slog.NewTextHandler(log, nil))
	n, err := volumenode.New(t.Context(), c, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(s.dir, "local"), filepath.Join(s.dir, "away")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = n.Run(ctx) })
	defer running.Wait()
	defer cancel()
	s.eventually("why the other one is not restored", func() bool {
		lines := log.lines("exports not restored")
		return len(lines) > 0 && strings.Contains(lines[0], string(vol2)) && !strings.Contains(lines[0], string(vol1))
	})
	s.eventually("the storage is away", func() bool { return len(log.lines("the storage of the backend is away")) > 0 })
}
