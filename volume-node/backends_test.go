package volumenode_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
	volumenode "github.com/scoria-storage/scoria/volume-node"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// below lists a directory; nothing if it is not there.
func below(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// requireRefused starts a node that must not start, with all the words in its reason.
func (s *site) requireRefused(c volumenode.Config, words ...string) {
	s.t.Helper()
	got := s.refused(c)
	for _, w := range words {
		if !strings.Contains(got, w) {
			s.t.Errorf("refused with %q, want %q in it", got, w)
		}
	}
}

func TestIdentityOfAStorageIsRecorded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.config("n1", "local=file:path=DIR/local", "fake=null"), s.deps())
	local := s.backend("local")
	marker, err := os.ReadFile(filepath.Join(s.dir, "local", "scoria-backend.json"))
	if err != nil || local.Identity == "" || !strings.Contains(string(marker), local.Identity) {
		t.Errorf("record has identity %q, the directory says %s (%v)", local.Identity, marker, err)
	}
	if storage, _ := operationstest.Get[records.Storage](t, s.World, records.StorageKey(local.Identity)); storage.Backend != "local" {
		t.Errorf("storage record %+v, want it to name backend local", storage)
	}
	if fake := s.backend("fake"); fake.Identity != "" {
		t.Errorf("a null backend has identity %q, want none", fake.Identity)
	}
	s.start(s.config("n1", "local=file:path=DIR/local", "fake=null"), s.deps()) // a second process with the same
}

func TestAnotherStorageUnderTheNameIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.config("n1", "local=file:path=DIR/local", "fast=file:path=DIR/fast"), s.deps())
	local, fast := s.backend("local").Identity, s.backend("fast").Identity
	if err := os.Mkdir(filepath.Join(s.dir, "mountpoint"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.requireRefused(s.config("n1", "local=file:path=DIR/fast"),
		"backend local", filepath.Join(s.dir, "fast"), local, fast, "not mounted, or the path is wrong", "mount it, or correct the path")
	for _, path := range []string{"mountpoint", "missing"} {
		s.requireRefused(s.config("n1", "local=file:path=DIR/"+path), "backend local", filepath.Join(s.dir, path), local, "not mounted, or the path is wrong")
		if left := below(t, filepath.Join(s.dir, path)); left != nil {
			t.Errorf("%s holds %v after a start that was refused, want nothing", path, left)
		}
	}
	// The node that it does not belong to is told so, and makes nothing either.
	s.requireRefused(s.config("n2", "local=file:path=DIR/missing"), "backend local belongs to node n1")
	s.requireRefused(s.config("n1", "fast=null"), "there is a backend fast of kind file")
	if names := below(t, s.dir); slices.Contains(names, "missing") {
		t.Errorf("the directory of a node that was refused was made: %v", names)
	}
}

func TestAStorageHasOneName(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.requireRefused(s.config("n1", "a=file:path=DIR/dir", "b=file:path=DIR/dir"), "backend b", "is served as backend a") // within a process
	s.start(s.config("n1", "a=file:path=DIR/dir"), s.deps())
	if err := os.Symlink(filepath.Join(s.dir, "dir"), filepath.Join(s.dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []volumenode.Config{s.config("n1", "b=file:path=DIR/dir"), s.config("n1", "b=file:path=DIR/link"), s.config("n2", "b=file:path=DIR/dir")} {
		s.requireRefused(c, "backend b", s.backend("a").Identity, "is served as backend a", "a storage of its own")
	}
	if b := s.backend("b"); b.Name != "" {
		t.Errorf("a backend that was refused has a record: %+v", b)
	}
	s.requireRefused(s.config("n1", "b=file:path=DIR/dir/volumes/b"), "lies inside "+filepath.Join(s.dir, "dir"))
}

// newAtOnce makes two nodes at the same moment, and returns how many could be made, and why others could not.
func (s *site) newAtOnce(a, b volumenode.Config) (made int, refusals []error) {
	s.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, c := range []volumenode.Config{a, b} {
		d := s.deps()
		wg.Go(func() {
			n, err := volumenode.New(s.t.Context(), c, d)
			if err == nil {
				err = n.Close()
				mu.Lock()
				made++
				mu.Unlock()
			}
			if err != nil {
				mu.Lock()
				refusals = append(refusals, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return made, refusals
}

func TestOfTwoThatRegisterAtOnceOneIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 10 {
		one, two := fmt.Sprintf("one%d", i), fmt.Sprintf("two%d", i)
		for name, c := range map[string]struct{ a, b volumenode.Config }{
			"one storage, two names":               {s.config("n1", one+"=file:path=DIR/"+one), s.config("n1", two+"=file:path=DIR/"+one)},
			"one storage, two names, two nodes":    {s.config("n1", "x"+one+"=file:path=DIR/x"+one), s.config("n2", "x"+two+"=file:path=DIR/x"+one)},
			"one name, two storages":               {s.config("n1", "y"+one+"=file:path=DIR/y"+one), s.config("n1", "y"+one+"=file:path=DIR/y"+two)},
			"one name, two storages, on two nodes": {s.config("n1", "z"+one+"=file:path=DIR/z"+one), s.config("n2", "z"+one+"=file:path=DIR/z"+two)},
		} {
			made, refusals := s.newAtOnce(c.a, c.b)
			if made != 1 || len(refusals) != 1 {
				t.Errorf("%s: %d were made, refusals %v; want one and one", name, made, refusals)
			}
			for _, err := range refusals {
				if _, ok := errors.AsType[*volumenode.SettingError](err); !ok {
					t.Errorf("%s: %v is no SettingError", name, err)
				}
			}
		}
	}
}

// forget makes the records as a release left them that did not record identities.
func (s *site) forget(backend string) {
	s.t.Helper()
	key := records.BackendKey(backend)
	_, err := s.Store.Update(s.t.Context(), []string{key}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := snap.Get(key)
		if err != nil {
			return err
		}
		b, err := records.Decode[records.Backend](e.Value)
		if err != nil {
			return err
		}
		storage, err := snap.Get(records.StorageKey(b.Identity))
		if err != nil {
			return err
		}
		b.Identity = ""
		tx.Put(key, records.Encode(b), e.Revision)
		tx.Delete(storage.Key, storage.Revision)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestIdentityThatWasNotRecordedIsFilledIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.config("n1", "local=file:path=DIR/local")
	s.start(c, s.deps())()
	was := s.backend("local").Identity
	s.forget("local")
	empty := filepath.Join(s.dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	s.requireRefused(s.config("n1", "local=file:path=DIR/empty"), "backend local", empty, "was served before")
	if left := below(t, empty); left != nil {
		t.Errorf("an empty directory holds %v after a start that was refused", left)
	}
	s.start(c, s.deps())
	if is := s.backend("local").Identity; is != was || was == "" {
		t.Errorf("identity %q after a start, want %q", is, was)
	}
	if storage, _ := operationstest.Get[records.Storage](t, s.World, records.StorageKey(was)); storage.Backend != "local" {
		t.Errorf("storage record %+v", storage)
	}
}

func TestNodeServesWhatAnyOfItsProcessesServes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require := func(want ...string) {
		t.Helper()
		node, _ := operationstest.Get[records.Node](t, s.World, records.NodeKey("n1"))
		if got := slices.Sorted(slices.Values(node.Backends)); !slices.Equal(got, want) {
			t.Errorf("the node's record says that it serves %v, want %v", got, want)
		}
	}
	stop := s.start(s.config("n1", "a=file:path=DIR/a"), s.deps())
	s.start(s.config("n1", "b=file:path=DIR/b", "fake=null"), s.deps())
	require("a", "b", "fake")
	processes := s.processes("n1")
	if len(processes) != 2 {
		t.Errorf("processes %v, want two", processes)
	}
	for _, p := range processes { // each is asked by itself
		var o messages.Objects
		s.ask(messages.ProcessSubject("n1", p, messages.NodeVerbList), messages.ListObjects{V: 1, Backend: "a"}, &o)
		if o.Error != nil && o.Error.Code != messages.CodeNotFound {
			t.Errorf("process %s: %v", p, o.Error)
		}
	}
	stop()
	s.eventually("one process is left", func() bool { return len(s.processes("n1")) == 1 })
	s.start(s.config("n1", "c=null"), s.deps())
	require("b", "c", "fake")
}

// TestWhatANewerReleaseWroteOfABackendStays: a node of this release registers over records that have a field more.
func TestWhatANewerReleaseWroteOfABackendStays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.config("n1", "local=file:path=DIR/b")
	s.start(c, s.deps())()
	keys := []string{records.BackendKey("local"), records.NodeKey("n1"), records.PoolKey("local")}
	more := []byte("\xa9from_next\xa3yes") // "from_next": "yes"
	for _, key := range keys {
		_, err := s.Store.Update(t.Context(), []string{key}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
			e, err := snap.Get(key)
			if err != nil {
				return err
			}
			tx.Put(key, oneFieldMore(t, e.Value, more), e.Revision)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Zone = "other"
	s.start(c, s.deps())()
	for _, key := range keys {
		e, err := s.Store.Get(t.Context(), key)
		if err != nil || !bytes.Contains(e.Value, more) {
			t.Errorf("%s is %q, %v: what the newer release wrote is lost", key, e.Value, err)
		}
	}
	if b, _ := operationstest.Get[records.Backend](t, s.World, keys[0]); b.Zone != "other" {
		t.Errorf("zone is %q: it was not registered again", b.Zone)
	}
}

// oneFieldMore adds an encoded field to a record: [version, kind, fields], each head one byte.
func oneFieldMore(t *testing.T, value, field []byte) []byte {
	t.Helper()
	at := 3 + int(value[2]&0x1f) // behind the list's head, the version and the kind
	if n := value[at]; n < 0x80 || n >= 0x8f {
		t.Fatalf("%q has no map of less than 15 fields at %d", value, at)
	}
	value = slices.Concat(value, field)
	value[at]++
	return value
}
