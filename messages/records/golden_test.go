package records

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/messages/block"
)

var moment = time.Date(2026, 11, 24, 12, 30, 15, 250_000_000, time.UTC)

// golden compares the encoding with the file, and decodes the file. The files are never edited: what they hold was
// written by a release and must be read by all later ones. A missing file is written once, for a new format.
func golden[T Record](t *testing.T, name string, want T) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("SCORIA_NEW_GOLDEN") != "" {
		text = []byte(hex.EncodeToString(Encode(want)) + "\n")
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode[T](data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !reflect.DeepEqual(normal(got), normal(want)) {
		t.Errorf("%s: golden file reads as\n%+v\nwant\n%+v", name, got, want)
	}
	if !bytes.Equal(Encode(want), data) {
		t.Errorf("%s: the format changed: fields are only added, with omitempty", name)
	}
}

// normal takes out how times hold their zone.
func normal(v any) string {
	return strings.ReplaceAll(strings.ReplaceAll(sprint(v), " +0000 UTC", ""), " UTC", "")
}

func TestFormatsOfEarlierReleasesAreRead(t *testing.T) {
	t.Parallel()
	golden(t, "volume-1", block.Volume{
		ID: "5a1bd7c0-2f44-4c55-9f0f-0a8f1d0e7a01", Project: "demo", User: "ann", Name: "disk", Description: "d", SizeGiB: 4, Type: "t", Zone: "nova",
		Metadata: map[string]string{"a": "b", "c": "d"}, Status: block.VolumeAvailable, FromSnapshot: "s", FromVolume: "v", Backend: "local",
		ReservedGiB: 4, ChargedGiB: 5, Snapshots: []block.SnapshotID{"s1", "s2"},
		Attachments: []block.AttachmentRef{{ID: "a1", Status: block.AttachAttached}}, CreatedAt: moment, UpdatedAt: moment, LastOperation: "o", Fault: "f",
	})
	golden(t, "snapshot-1", block.Snapshot{
		ID: "s1", Volume: "v1", Project: "demo", User: "ann", Name: "n", Description: "d", SizeGiB: 4, Metadata: map[string]string{"k": "v"},
		Status: block.SnapshotError, Backend: "local", CreatedAt: moment, UpdatedAt: moment, LastOperation: "o", Fault: "f",
	})
	golden(t, "attachment-1", block.Attachment{
		ID: "a1", Volume: "v1", Project: "demo", User: "ann", Instance: "i", Status: block.AttachAttaching, ReadOnly: true, Connector: []byte(`{"host":"h"}`),
		Connection: &block.Connection{Driver: "nbd", URI: "nbd+unix:///a1?socket=/s", Socket: "/s", Export: "a1", Node: "n"},
		CreatedAt:  moment, AttachedAt: moment, UpdatedAt: moment, LastOperation: "o", Fault: "f",
	})
	golden(t, "quota-1", Quota{Project: "demo", Limits: &Limits{10, -1, 1000}, Use: Usage{1, 2, 3}})
	golden(t, "credit-1", Credit{Project: "demo", Node: "n1", Back: Usage{1, 0, 5}})
	golden(t, "pool-1", Pool{Backend: "local", TotalBytes: 1 << 40, FreeBytes: 1 << 39, ReportedAt: moment, Ratio: 20, AllocatedGiB: 77})
	golden(t, "backend-1", Backend{Name: "local", Kind: "file", Fencing: "node", Node: "id", NodeName: "n1", Reflink: true, KeepsData: true, Zone: "nova"})
	golden(t, "backend-2", Backend{Name: "local", Kind: "file", Fencing: "node", Node: "id", NodeName: "n1", KeepsData: true, Identity: "KQZPEXMRLSDHJ4WFEA2UT7VNBC"})
	golden(t, "backend-3", Backend{Name: "local", Kind: "file", Fencing: "node", Node: "id", NodeName: "n1", KeepsData: true, Identity: "KQZPEXMRLSDHJ4WFEA2UT7VNBC",
		Hosts: []string{"n1", "machine.example.org"}})
	golden(t, "storage-1", Storage{Identity: "KQZPEXMRLSDHJ4WFEA2UT7VNBC", Backend: "local"})
	golden(t, "node-2", Node{Name: "n1", ID: "id", Backends: []string{"local"}, Processes: map[string][]string{"n1-AAAAAAAAAA": {"local"}}, Seen: moment, Release: "0.1.0"})
	golden(t, "node-1", Node{Name: "n1", ID: "id", Backends: []string{"local", "fake"}, Seen: moment, Release: "0.1.0"})
}

func TestABackendIsReachedByItsMachineAlone(t *testing.T) {
	t.Parallel()
	b := Backend{Hosts: []string{"n1", "vm.example.org"}}
	for host, want := range map[string]bool{
		"": true, "localhost": true, "n1": true, "vm.example.org": true, "vm": true, "VM.Example.ORG": true, "n1.example.org": true,
		"other": false, "vm.example.com": false, "example.org": false, "vm2": false, ".": false,
	} {
		if got := b.Reaches(host); got != want {
			t.Errorf("Reaches(%q) = %v, want %v", host, got, want)
		}
	}
	if b := (Backend{}); !b.Reaches("other") {
		t.Error("a backend of an earlier release is reached by some hosts only")
	}
}

func TestRecordsOfOthersAreRefusedInWords(t *testing.T) {
	t.Parallel()
	good := Encode(Quota{Project: "demo"})
	newer := bytes.Clone(good)
	newer[1] = 2
	if _, err := Decode[Quota](newer); !errors.Is(err, ErrNewer) {
		t.Errorf("newer format: %v, want ErrNewer", err)
	}
	if _, err := Decode[Pool](good); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "quota") {
		t.Errorf("other kind: %v, want ErrBroken that names it", err)
	}
	for i := range good {
		if _, err := Decode[Quota](good[:i]); !errors.Is(err, ErrBroken) {
			t.Errorf("cut at %d: %v, want ErrBroken", i, err)
		}
	}
}

func TestClassifyKnowsEveryKey(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]Class{
		VolumeKey("v"): ClassVolume, SnapshotKey("s"): ClassSnapshot, AttachmentKey("a"): ClassAttachment, QuotaKey("p"): ClassQuota,
		CreditKey("p", "n"): ClassCredit, PoolKey("b"): ClassPool, BackendKey("b"): ClassBackend, NodeKey("n"): ClassNode,
		StorageKey("i"): ClassOther,
		"op.x":          ClassOther, "lock.volume.v": ClassOther, "rcpt.t": ClassOther, "x": ClassOther,
	} {
		if got, _ := Classify(key); got != want {
			t.Errorf("Classify(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestPoolRoomHoldsTheRatio(t *testing.T) {
	t.Parallel()
	p := Pool{TotalBytes: 10 << 30, FreeBytes: 10 << 30, Ratio: 2, AllocatedGiB: 15}
	if !p.Room(5) || p.Room(6) {
		t.Error("20 GiB may be allocated of 10 GiB at ratio 2")
	}
	p.FreeBytes = 1 << 30
	if p.Room(3) || !p.Room(2) {
		t.Error("2 GiB may be promised of 1 GiB free at ratio 2")
	}
	if p.TotalBytes = -1; !p.Room(block.MaxSize) {
		t.Error("a pool without bound has room")
	}
}
