package volumenode_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	volumenode "github.com/scoria-storage/scoria/volume-node"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

const (
	project = "p1"
	soon    = 30 * time.Second

	vol1 = block.VolumeID("11111111-0000-4000-8000-000000000001")
	att1 = block.AttachmentID("33333333-0000-4000-8000-000000000001")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a bucket, and a place for nodes.
type site struct {
	*operationstest.World
	t   *testing.T
	srv *natstest.Server
	dir string
}

func newSite(t *testing.T) *site {
	t.Helper()
	srv := natstest.Start(t)
	return &site{World: operationstest.New(t, srv.JetStream(t)), t: t, srv: srv, dir: t.TempDir()}
}

func (s *site) config(name string, backends ...string) volumenode.Config {
	s.t.Helper()
	c := volumenode.Config{Name: name, StateDir: filepath.Join(s.dir, "state-"+name), Lease: time.Second, Release: "test"}
	for _, b := range backends {
		spec, err := driver.ParseSpec(strings.ReplaceAll(b, "DIR", s.dir))
		if err != nil {
			s.t.Fatal(err)
		}
		c.Backends = append(c.Backends, spec)
	}
	return c
}

func (s *site) deps() volumenode.Deps {
	s.t.Helper()
	w := s.Again(s.t, s.srv.JetStream(s.t))
	return volumenode.Deps{Store: w.Store, Locks: w.Locks, Exporter: exporttest.Start(s.t)}
}

// start runs a node until the test or the returned function ends it.
func (s *site) start(c volumenode.Config, d volumenode.Deps) (stop func()) {
	s.t.Helper()
	n, err := volumenode.New(s.t.Context(), c, d)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				s.t.Errorf("Run: %v", err)
			}
		case <-time.After(soon):
			s.t.Error("the node does not end")
		}
	})
	s.t.Cleanup(stop)
	select {
	case <-n.Ready():
	case <-time.After(soon):
		s.t.Fatal("the node does not become ready")
	}
	return stop
}

// refused starts a node that must not start, and returns the reason.
func (s *site) refused(c volumenode.Config) string {
	s.t.Helper()
	d := s.deps()
	n, err := volumenode.New(s.t.Context(), c, d)
	if err == nil {
		_ = n.Close()
		s.t.Fatalf("node %s started", c.Name)
	}
	var setting *volumenode.SettingError
	if !errors.As(err, &setting) {
		s.t.Errorf("%v is no SettingError", err)
	}
	return err.Error()
}

func (s *site) admitter() *admit.Admitter {
	return admit.New(s.Store, s.Locks, operationstest.Hints{T: s.t, World: s.World}, admit.Defaults{}, nil)
}

func (s *site) submit(req messages.Request) block.OperationID {
	s.t.Helper()
	a, err := s.admitter().Submit(s.t.Context(), admit.Submission{Caller: admit.Caller{Project: project, User: "u1"}, Request: req})
	if err != nil {
		s.t.Fatalf("%s refused: %v", req.Kind(), err)
	}
	return a.Operation
}

// ended waits for the end of an operation.
func (s *site) ended(id block.OperationID) kvlock.Record {
	s.t.Helper()
	for deadline := time.Now().Add(soon); ; <-time.After(5 * time.Millisecond) {
		rec, err := s.Locks.Record(s.t.Context(), string(id))
		if err != nil {
			s.t.Fatal(err)
		}
		if !rec.Live() || time.Now().After(deadline) {
			return rec
		}
	}
}

func (s *site) do(req messages.Request) {
	s.t.Helper()
	if rec := s.ended(s.submit(req)); rec.Phase != kvlock.Done {
		s.t.Fatalf("%s is %s, want done", req.Kind(), rec.Phase)
	}
}

// ask puts a question to a node or a process.
func (s *site) ask(subject string, question, answer any) {
	s.t.Helper()
	m, err := s.srv.Conn(s.t).Request(subject, messages.Encode(question), soon)
	if err == nil {
		err = messages.Decode(m.Data, answer)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// processes are those of a node, as one of them says.
func (s *site) processes(node string) []string {
	s.t.Helper()
	var p messages.Processes
	s.ask(messages.NodeSubject(node, messages.NodeVerbProcesses), nil, &p)
	if p.Error != nil {
		s.t.Fatal(p.Error)
	}
	return p.Processes
}

func (s *site) backend(name string) records.Backend {
	s.t.Helper()
	b, _ := operationstest.Get[records.Backend](s.t, s.World, records.BackendKey(name))
	return b
}

func (s *site) eventually(what string, holds func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(soon); !holds(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not seen: %s", what)
		}
	}
}

func TestNodeServesItsBackends(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stop := s.start(s.config("n1", "local=file:path=DIR/local", "fake=null"), s.deps())
	node, _ := operationstest.Get[records.Node](t, s.World, records.NodeKey("n1"))
	if node.ID == "" || fmt.Sprint(node.Backends) != "[local fake]" || node.Release != "test" {
		t.Errorf("node record %+v", node)
	}
	local, _ := operationstest.Get[records.Backend](t, s.World, records.BackendKey("local"))
	if local.Kind != "file" || local.Node != node.ID || local.NodeName != "n1" || !local.KeepsData {
		t.Errorf("backend record %+v", local)
	}
	machine, err := os.Hostname()
	if err != nil || !local.Reaches("n1") || !local.Reaches(machine) || local.Reaches("other-"+machine) {
		t.Errorf("the record says that %q reach the backend, want n1 and %q (%v)", local.Hosts, machine, err)
	}
	if fake, _ := operationstest.Get[records.Backend](t, s.World, records.BackendKey("fake")); fake.Kind != "null" || fake.Node != "" || fake.KeepsData {
		t.Errorf("backend record %+v", fake)
	}
	if p, _ := operationstest.Get[records.Pool](t, s.World, records.PoolKey("local")); p.TotalBytes <= 0 || p.Ratio < 1 || p.ReportedAt.IsZero() {
		t.Errorf("pool record %+v", p)
	}
	for range 4 {
		s.do(&messages.CreateVolume{SizeGiB: 1})
	}
	stop()
	kvlocktest.RequireFree(t, s.Locks)
}

func TestPoolKeepsItsAllocationsOverARestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.config("n1", "local=file:path=DIR/local")
	stop := s.start(c, s.deps())
	s.do(&messages.CreateVolume{SizeGiB: 3})
	stop()
	s.start(c, s.deps())
	if p, _ := operationstest.Get[records.Pool](t, s.World, records.PoolKey("local")); p.AllocatedGiB != 3 {
		t.Errorf("%d GiB allocated after a restart, want 3", p.AllocatedGiB)
	}
}

func TestTwoProcessesOfANodeShareTheWork(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.config("n1", "local=file:path=DIR/local,delay=30ms")
	c.Workers = 1
	d1, d2 := s.deps(), s.deps()
	d2.Exporter = d1.Exporter
	s.start(c, d1)
	s.start(c, d2)
	var ids []block.OperationID
	for range 10 {
		ids = append(ids, s.submit(&messages.CreateVolume{SizeGiB: 1}))
	}
	workers := map[string]int{}
	for _, id := range ids {
		rec := s.ended(id)
		if rec.Phase != kvlock.Done {
			t.Errorf("operation is %s", rec.Phase)
		}
		workers[rec.Worker]++
	}
	if len(workers) != 2 {
		t.Errorf("work was done by %v, want two workers", workers)
	}
}

func TestNodesAreRefusedInWords(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.config("n1", "local=file:path=DIR/local", "fake=null"), s.deps())
	for _, c := range []struct {
		name, want string
		change     func(*volumenode.Config)
	}{
		{"same name, other state", "there is a node of this name with ID", func(c *volumenode.Config) { c.Name, c.StateDir = "n1", filepath.Join(s.dir, "other") }},
		{"state of another node", "belongs to node n1: use that name", func(c *volumenode.Config) { c.StateDir = filepath.Join(s.dir, "state-n1") }},
		{"backend of another node", "backend local belongs to node n1", func(c *volumenode.Config) { c.Backends = s.config("x", "local=file:path=DIR/b").Backends }},
		{"backend of another kind", "there is a backend local of kind file", func(c *volumenode.Config) { c.Backends = s.config("x", "local=null").Backends }},
		{"backend of a kind that there is not", "kind \"floppy\" is not known: want one of file, null", func(c *volumenode.Config) { c.Backends = s.config("x", "local=floppy").Backends }},
		{"unknown kind", "kind \"floppy\" is not known", func(c *volumenode.Config) { c.Backends = s.config("x", "b=floppy").Backends }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := s.config("n2", "fake=null")
			c.change(&cfg)
			if got := s.refused(cfg); !strings.Contains(got, c.want) {
				t.Errorf("refused with %q, want %q in it", got, c.want)
			}
		})
	}
	s.start(s.config("n3", "fake=null"), s.deps()) // any node may serve a null backend
}

func TestConfigNamesTheWrongSetting(t *testing.T) {
	t.Parallel()
	s := &site{t: t, dir: t.TempDir()}
	good := s.config("n1", "fake=null")
	if err := good.Validate(); err != nil {
		t.Fatalf("a good configuration is refused: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*volumenode.Config)
		want   string
	}{
		"name":     {func(c *volumenode.Config) { c.Name = "a b" }, `setting name: value "a b"`},
		"state":    {func(c *volumenode.Config) { c.StateDir = "" }, "setting state:"},
		"none":     {func(c *volumenode.Config) { c.Backends = nil }, "setting backend:"},
		"twice":    {func(c *volumenode.Config) { c.Backends = append(c.Backends, c.Backends[0]) }, "is used twice"},
		"workers":  {func(c *volumenode.Config) { c.Workers = -1 }, `setting workers: value "-1"`},
		"lease":    {func(c *volumenode.Config) { c.Lease = time.Millisecond }, "at least 1s"},
		"stop":     {func(c *volumenode.Config) { c.StopLimit = -time.Second }, "setting stop-limit"},
		"bad spec": {func(c *volumenode.Config) { c.Backends[0].Name = "a.b" }, "setting backend:"},
	} {
		cfg := good
		cfg.Backends = append([]driver.Spec(nil), good.Backends...)
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func TestTemporariesOfEndedOperationsAreRemovedAtStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.config("n1", "local=file:path=DIR/local")
	stop := s.start(c, s.deps())
	stop()
	if _, err := s.Locks.TryAcquire(t.Context(), "live", nil, kvlock.Exclusive("something")); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(s.dir, "local", "volumes", ".tmp-ended."+string(vol1))
	stays := filepath.Join(s.dir, "local", "volumes", ".tmp-live."+string(vol1))
	for _, path := range []string{gone, stays} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start(c, s.deps())
	s.eventually("the temporary of an ended operation removed", func() bool {
		_, err := os.Stat(gone)
		return errors.Is(err, os.ErrNotExist)
	})
	if _, err := os.Stat(stays); err != nil {
		t.Errorf("the temporary of a live operation: %v, want it there", err)
	}
}

func TestExportsAreRestoredFromTheirAttachments(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.config("n1", "local=file:path=DIR/local")
	stop := s.start(c, s.deps())
	s.do(&messages.CreateVolume{Volume: vol1, SizeGiB: 1})
	s.do(&messages.AttachVolume{Volume: vol1, Attachment: att1, Connector: []byte(`{}`)})
	stop()
	d := s.deps() // an export server that has lost its table
	s.start(c, d)
	s.eventually("the export restored", func() bool {
		all, err := d.Exporter.List(t.Context())
		return err == nil && len(all) == 1 && all[0].Attachment == string(att1) && all[0].Connection.Bytes == 1<<30
	})
	s.do(&messages.DetachVolume{Attachment: att1}) // its fence is above the restored one
	if all, err := d.Exporter.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("exports after the detach: %v, %v", all, err)
	}
}

func TestAQuestionOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.config("n1", "local=file:path=DIR/local"), s.deps())
	var list messages.Objects
	s.ask(messages.ProcessSubject("n1", s.processes("n1")[0], messages.NodeVerbList), messages.ListObjects{V: messages.EnvelopeVersion + 1, Backend: "local"}, &list)
	var fence messages.FenceRaised
	s.ask(messages.BackendSubject("n1", "local", messages.NodeVerbFence), messages.RaiseFence{V: messages.EnvelopeVersion + 1, Operation: "x"}, &fence)
	for what, err := range map[string]*messages.Error{"list": list.Error, "fence": fence.Error} {
		if err == nil || err.Code != messages.CodeUnsupported {
			t.Errorf("%s: %v, want %s", what, err, messages.CodeUnsupported)
		}
	}
}

func TestNodeTellsWhatItsBackendsHold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.config("n1", "local=file:path=DIR/local", "fake=null"), s.deps())
	processes := s.processes("n1")
	if len(processes) != 1 {
		t.Fatalf("processes %v, want one", processes)
	}
	ask := func(q messages.ListObjects) (o messages.Objects) {
		q.V = messages.EnvelopeVersion
		t.Helper()
		q.V = messages.EnvelopeVersion
		s.ask(messages.ProcessSubject("n1", processes[0], messages.NodeVerbList), q, &o)
		return o
	}
	const volumes = messages.MaxObjects + 5
	for i := range volumes {
		path := filepath.Join(s.dir, "local", "volumes", fmt.Sprintf("v%05d", i))
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "local", "snapshots", ".tmp-op.s1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first := ask(messages.ListObjects{Backend: "local"})
	if local := s.backend("local"); first.Identity == "" || first.Identity != local.Identity {
		t.Errorf("list says identity %q, the record %q", first.Identity, local.Identity)
	}
	if first.Error != nil || !first.More || len(first.Objects) != messages.MaxObjects || first.Objects[0] != (messages.Object{Class: messages.ObjectTemporary, ID: "op.s1"}) {
		t.Fatalf("first page: error %v, more %v, %d objects, first %+v", first.Error, first.More, len(first.Objects), first.Objects[0])
	}
	last := first.Objects[len(first.Objects)-1]
	second := ask(messages.ListObjects{Backend: "local", AfterClass: last.Class, AfterID: last.ID})
	if n := len(second.Objects); second.More || n != volumes+1-messages.MaxObjects || second.Objects[n-1].ID != fmt.Sprintf("v%05d", volumes-1) {
		t.Errorf("second page: more %v, %d objects", second.More, n)
	}
	if fake := ask(messages.ListObjects{Backend: "fake"}); !fake.KeepsNoData {
		t.Errorf("null backend: %+v", fake)
	}
	if other := ask(messages.ListObjects{Backend: "other"}); other.Error == nil || other.Error.Code != messages.CodeNotFound {
		t.Errorf("unknown backend: %+v", other)
	}
}
