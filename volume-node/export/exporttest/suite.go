package exporttest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/export"
)

const mib = 1 << 20

// Run checks an exporter. start makes a fresh one for each check.
func Run(t *testing.T, start func(t *testing.T) *Bench) {
	for _, c := range []struct {
		name  string
		check func(*suite)
	}{
		{"ExportIsRepeatable", (*suite).exportIsRepeatable},
		{"ConflictingExportIsRefused", (*suite).conflictingExportIsRefused},
		{"InvalidRequestChangesNothing", (*suite).invalidRequestChangesNothing},
		{"UnexportCutsOffBeforeItReturns", (*suite).unexportCutsOffBeforeItReturns},
		{"UnexportBringsWritesToStableStorage", (*suite).unexportBringsWritesToStableStorage},
		{"UnexportOfMissingSucceedsAndFences", (*suite).unexportOfMissingSucceedsAndFences},
		{"LowerFenceIsRefused", (*suite).lowerFenceIsRefused},
		{"ReadOnlyExportIsNeverChanged", (*suite).readOnlyExportIsNeverChanged},
		{"FlushAndFUAAreHonest", (*suite).flushAndFUAAreHonest},
		{"NothingIsWrittenWhileHeld", (*suite).nothingIsWrittenWhileHeld},
		{"HoldCoversLaterExports", (*suite).holdCoversLaterExports},
		{"HoldsMayOverlap", (*suite).holdsMayOverlap},
		{"LostHoldIsReported", (*suite).lostHoldIsReported},
		{"UnexportEndsHeldWrites", (*suite).unexportEndsHeldWrites},
		{"ResizeIsSeenByNewConnections", (*suite).resizeIsSeenByNewConnections},
		{"ManyExportsAtOnce", (*suite).manyExportsAtOnce},
		{"KillBringsExportsBack", (*suite).killBringsExportsBack},
		{"KillLosesHolds", (*suite).killLosesHolds},
		{"KillKeepsFences", (*suite).killKeepsFences},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			if b.Dial == nil {
				b.Dial = DialNBD
			}
			c.check(&suite{T: t, Bench: b})
		})
	}
}

type suite struct {
	*testing.T
	*Bench
}

// request is an export of a new file.
func (s *suite) request(name string) export.Request {
	s.Helper()
	return export.Request{
		Attachment: "attach-" + name, Volume: "volume-" + name, Operation: "op-1", Fence: export.Fence{Era: 1, Rev: 10},
		Path: volumeFile(s, mib), Bytes: mib,
	}
}

func removal(r export.Request) export.Removal {
	return export.Removal{Attachment: r.Attachment, Volume: r.Volume, Operation: "op-2", Fence: r.Fence}
}

func (s *suite) export(r export.Request) export.Connection {
	s.Helper()
	c, err := s.Exporter.Export(s.Context(), r)
	if err != nil {
		s.Fatalf("Export(%+v): %v", r, err)
	}
	return c
}

func (s *suite) host(c export.Connection) Host {
	s.Helper()
	h, err := s.Dial(c)
	if err != nil {
		s.Fatalf("host of %s: %v", c.URI, err)
	}
	s.Cleanup(func() { _ = h.Close() })
	return h
}

// must fails unless err matches the wanted error; nil: none.
func (s *suite) must(what string, err, want error) {
	s.Helper()
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		s.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func (s *suite) list() []export.Exported {
	s.Helper()
	l, err := s.Exporter.List(s.Context())
	s.must("List", err, nil)
	return l
}

func (s *suite) eventually(what string, done func() bool) {
	s.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(limit) {
			s.Fatalf("did not happen: %s", what)
		}
	}
}

func (s *suite) exportIsRepeatable() {
	r := s.request("a")
	first := s.export(r)
	h := s.host(first)
	s.must("write", h.WriteAt([]byte("hello"), 100), nil)
	r.Operation, r.Fence.Rev = "op-1", r.Fence.Rev+5
	if again := s.export(r); again != first {
		s.Errorf("the repeated export has connection %+v, the first %+v", again, first)
	}
	p := make([]byte, 5)
	s.must("read on the first connection", h.ReadAt(p, 100), nil)
	if string(p) != "hello" {
		s.Errorf("read %q", p)
	}
	l := s.list()
	if len(l) != 1 || l[0].Attachment != r.Attachment || l[0].Volume != r.Volume || l[0].Fence != r.Fence || l[0].Connection != first || l[0].Fault != "" {
		s.Errorf("List: %+v", l)
	}
	s.eventually("the list counts the host", func() bool { return s.list()[0].Clients == 1 })
	s.must("Unexport", s.Exporter.Unexport(s.Context(), removal(r)), nil)
	s.must("Unexport again", s.Exporter.Unexport(s.Context(), removal(r)), nil)
	if l := s.list(); len(l) != 0 {
		s.Errorf("List after Unexport: %+v", l)
	}
}

func (s *suite) conflictingExportIsRefused() {
	r := s.request("a")
	s.export(r)
	other := s.request("b")
	for name, change := range map[string]func(*export.Request){
		"another volume": func(r *export.Request) { r.Volume = other.Volume },
		"another path":   func(r *export.Request) { r.Path = other.Path },
		"another mode":   func(r *export.Request) { r.ReadOnly = true },
		"fewer bytes":    func(r *export.Request) { r.Bytes-- },
	} {
		bad := r
		change(&bad)
		_, err := s.Exporter.Export(s.Context(), bad)
		s.must(name, err, export.ErrConflict)
	}
	bad := removal(r)
	bad.Volume = other.Volume
	s.must("Unexport of another volume", s.Exporter.Unexport(s.Context(), bad), export.ErrConflict)
	if l := s.list(); len(l) != 1 || l[0].Path != r.Path || l[0].Connection.Bytes != r.Bytes {
		s.Errorf("List: %+v", l)
	}
}

func (s *suite) invalidRequestChangesNothing() {
	for name, c := range map[string]struct {
		change func(*export.Request)
		want   error
	}{
		"attachment with a slash": {func(r *export.Request) { r.Attachment = "../x" }, export.ErrInvalid},
		"attachment empty":        {func(r *export.Request) { r.Attachment = "" }, export.ErrInvalid},
		"attachment too long":     {func(r *export.Request) { r.Attachment = string(bytes.Repeat([]byte("x"), 65)) }, export.ErrInvalid},
		"volume with a dot":       {func(r *export.Request) { r.Volume = "a.b" }, export.ErrInvalid},
		"relative path":           {func(r *export.Request) { r.Path = "volume" }, export.ErrInvalid},
		"path with dots":          {func(r *export.Request) { r.Path = "/tmp/../etc/passwd" }, export.ErrInvalid},
		"directory":               {func(r *export.Request) { r.Path = os.TempDir(); r.ReadOnly = true }, export.ErrInvalid},
		"no bytes":                {func(r *export.Request) { r.Bytes = 0 }, export.ErrInvalid},
		"more than the file has":  {func(r *export.Request) { r.Bytes = mib + 1 }, export.ErrInvalid},
		"missing file":            {func(r *export.Request) { r.Path += "-missing" }, export.ErrNotFound},
	} {
		r := s.request("a")
		c.change(&r)
		_, err := s.Exporter.Export(s.Context(), r)
		s.must(name, err, c.want)
	}
	if l := s.list(); len(l) != 0 {
		s.Errorf("List: %+v", l)
	}
	s.must("Resize", s.Exporter.Resize(s.Context(), "a/b", mib), export.ErrInvalid)
	_, err := s.Exporter.Hold(s.Context(), "")
	s.must("Hold", err, export.ErrInvalid)
}

// hammer writes changing bytes to a host until a write fails.
func hammer(h Host, lane int64) {
	p := bytes.Repeat([]byte{1}, 4096)
	for h.WriteAt(p, lane*4096) == nil {
		for i := range p {
			p[i] = max(p[i]+1, 1)
		}
	}
}

func (s *suite) unexportCutsOffBeforeItReturns() {
	r := s.request("a")
	c := s.export(r)
	var all sync.WaitGroup
	for lane := range int64(4) {
		h := s.host(c)
		all.Go(func() { hammer(h, lane) })
	}
	s.eventually("hosts write", func() bool { return s.read(r.Path)[3*4096] > 3 })
	s.must("Unexport", s.Exporter.Unexport(s.Context(), removal(r)), nil)
	after := s.read(r.Path)
	all.Wait() // each host has seen a write fail
	if late, err := s.Dial(c); err == nil {
		_ = late.Close()
		s.Error("a host connects after Unexport")
	}
	if !bytes.Equal(after, s.read(r.Path)) {
		s.Error("the file changed after Unexport had returned")
	}
}

func (s *suite) read(path string) []byte {
	s.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	return p
}

func (s *suite) unexportBringsWritesToStableStorage() {
	if s.Syncs == nil {
		s.Skip("this exporter does not count syncs")
	}
	r := s.request("a")
	s.must("write", s.host(s.export(r)).WriteAt([]byte("x"), 0), nil)
	before := s.Syncs()
	s.must("Unexport", s.Exporter.Unexport(s.Context(), removal(r)), nil)
	if s.Syncs() == before {
		s.Error("Unexport returned without a sync")
	}
}

func (s *suite) unexportOfMissingSucceedsAndFences() {
	r := s.request("a")
	end := removal(r)
	end.Fence.Rev++
	s.must("Unexport of a missing export", s.Exporter.Unexport(s.Context(), end), nil)
	_, err := s.Exporter.Export(s.Context(), r)
	s.must("Export by a worker that was overtaken", err, export.ErrFenced)
	r.Fence.Rev += 2
	s.export(r)
}

func (s *suite) lowerFenceIsRefused() {
	r := s.request("a")
	c := s.export(r)
	low := r
	low.Fence.Rev--
	_, err := s.Exporter.Export(s.Context(), low)
	s.must("Export", err, export.ErrFenced)
	low.Attachment = "attach-b"
	_, err = s.Exporter.Export(s.Context(), low)
	s.must("Export of another attachment of the volume", err, export.ErrFenced)
	low.Attachment = r.Attachment
	s.must("Unexport", s.Exporter.Unexport(s.Context(), removal(low)), export.ErrFenced)
	s.must("write", s.host(c).WriteAt([]byte("x"), 0), nil)
	end := removal(r)
	end.Fence = export.Fence{Era: 2, Rev: 1}
	s.must("Unexport of a later era", s.Exporter.Unexport(s.Context(), end), nil)
	_, err = s.Exporter.Export(s.Context(), r)
	s.must("Export of an earlier era", err, export.ErrFenced)
}

func (s *suite) readOnlyExportIsNeverChanged() {
	r := s.request("a")
	r.ReadOnly = true
	c := s.export(r)
	if !c.ReadOnly {
		s.Errorf("connection %+v does not say read-only", c)
	}
	h := s.host(c)
	if h.WriteAt([]byte("x"), 0) == nil {
		s.Error("a write succeeded")
	}
	s.must("read", h.ReadAt(make([]byte, 1), 0), nil)
	if !bytes.Equal(s.read(r.Path), make([]byte, mib)) {
		s.Error("the file changed")
	}
}

func (s *suite) flushAndFUAAreHonest() {
	if s.Syncs == nil {
		s.Skip("this exporter does not count syncs")
	}
	c := s.export(s.request("a"))
	one, two := s.host(c), s.host(c)
	for name, do := range map[string]func() error{
		"flush of another connection": two.Flush,
		"write with FUA":              func() error { return two.WriteFUA([]byte("y"), 4096) },
	} {
		s.must("write", one.WriteAt([]byte("x"), 0), nil)
		before := s.Syncs()
		s.must(name, do(), nil)
		if s.Syncs() == before {
			s.Errorf("%s returned without a sync", name)
		}
	}
}

func (s *suite) resizeIsSeenByNewConnections() {
	r := s.request("a")
	c := s.export(r)
	s.must("Resize beyond the file", s.Exporter.Resize(s.Context(), r.Volume, 2*mib), export.ErrInvalid)
	s.must("Resize to less", s.Exporter.Resize(s.Context(), r.Volume, mib/2), export.ErrInvalid)
	if err := os.Truncate(r.Path, 2*mib); err != nil {
		s.Fatal(err)
	}
	s.must("Resize", s.Exporter.Resize(s.Context(), r.Volume, 2*mib), nil)
	s.must("Resize again", s.Exporter.Resize(s.Context(), r.Volume, 2*mib), nil)
	s.must("Resize of a volume without exports", s.Exporter.Resize(s.Context(), "other", mib), nil)
	h := s.host(c)
	if h.Bytes() != 2*mib {
		s.Errorf("a new host sees %d bytes, want %d", h.Bytes(), 2*mib)
	}
	s.must("write at the new end", h.WriteAt([]byte("x"), 2*mib-1), nil)
	if l := s.list(); len(l) != 1 || l[0].Connection.Bytes != 2*mib {
		s.Errorf("List: %+v", l)
	}
}

func (s *suite) manyExportsAtOnce() {
	const count = 24
	requests := make([]export.Request, count)
	for i := range requests {
		requests[i] = s.request(fmt.Sprint(i))
		if i%4 == 3 { // some volumes have two attachments
			requests[i].Volume, requests[i].Path = requests[i-1].Volume, requests[i-1].Path
		}
	}
	var all sync.WaitGroup
	for i, r := range requests {
		all.Go(func() {
			c, err := s.Exporter.Export(s.Context(), r)
			s.must("Export", err, nil)
			h, err := s.Dial(c)
			if err != nil {
				s.Error(err)
				return
			}
			s.must("write", h.WriteAt([]byte{byte(i + 1)}, int64(i)), nil)
			s.must("Close", h.Close(), nil)
		})
	}
	all.Wait()
	l := s.list()
	if len(l) != count {
		s.Errorf("%d exports, want %d", len(l), count)
	}
	for i, r := range requests {
		if got := s.read(r.Path)[i]; got != byte(i+1) {
			s.Errorf("volume of %s has %d at %d, want %d", r.Attachment, got, i, i+1)
		}
	}
	for _, r := range requests {
		all.Go(func() { s.must("Unexport", s.Exporter.Unexport(s.Context(), removal(r)), nil) })
	}
	all.Wait()
	if l := s.list(); len(l) != 0 {
		s.Errorf("%d exports are left", len(l))
	}
}

func (s *suite) killBringsExportsBack() {
	if s.Kill == nil {
		s.Skip("this exporter has no data plane of its own to kill")
	}
	a, b, gone := s.request("a"), s.request("b"), s.request("gone")
	b.ReadOnly = true
	before := s.export(a)
	s.export(b)
	s.export(gone)
	s.must("Unexport", s.Exporter.Unexport(s.Context(), removal(gone)), nil)
	h := s.host(before)
	s.must("write", h.WriteAt([]byte("kept"), 4096), nil)
	s.Kill(s.T)
	<-h.Ended()
	s.eventually("the exports are back", func() bool { return len(s.list()) == 2 })
	for _, e := range s.list() {
		if e.Fault != "" {
			s.Errorf("%s cannot be used: %s", e.Attachment, e.Fault)
		}
	}
	p := make([]byte, 4)
	s.must("read by the same connection data", s.host(before).ReadAt(p, 4096), nil)
	if string(p) != "kept" {
		s.Errorf("read %q after the kill", p)
	}
	if after := s.export(a); after != before {
		s.Errorf("connection %+v after the kill, %+v before", after, before)
	}
}

func (s *suite) killKeepsFences() {
	if s.Kill == nil {
		s.Skip("this exporter has no data plane of its own to kill")
	}
	r := s.request("a")
	s.export(r)
	end := removal(r)
	end.Fence.Rev++
	s.must("Unexport", s.Exporter.Unexport(s.Context(), end), nil)
	s.Kill(s.T)
	_, err := s.Exporter.Export(s.Context(), r)
	s.must("Export by a worker that was overtaken", err, export.ErrFenced)
}
