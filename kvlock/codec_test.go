package kvlock

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func at(second int) time.Time { return time.Date(2026, 3, 1, 12, 0, second, 250e6, time.UTC) }

// What the golden files hold. Neither they nor these values are ever edited; a new field gets a new file.
var (
	goldenFull = Record{
		Owner:  "5b6b3f3e-2a3c-4f57-9d0e-6f6f7b0a9a01",
		Claims: []Claim{Shared("snapshot.s1"), Exclusive("volume.v9")},
		Phase:  Undoing, Epoch: 3, Position: 7, Dispatch: 2,
		Worker: "node-a/1", Token: "delivery-9", FenceRev: 4711, Era: 2,
		Since: at(0), Adopted: at(5), Deadline: at(30), Ended: at(59),
		Cancel:   &Cancel{By: "user-1", At: at(6)},
		Audit:    []Audit{{Action: "resume", Reason: "disk was full", At: at(7), Phase: Stuck, Epoch: 2, Worker: "node-b/4"}},
		Payload:  []byte("payload\x00\xff"),
		Revision: 9000,
	}
	goldenAdopted = Record{
		Owner: "op-1", Claims: []Claim{Exclusive("volume.v1")}, Phase: Running, Epoch: 1, Dispatch: 1,
		Worker: "w", Token: "t", FenceRev: 9000, Era: 1, Since: at(0), Adopted: at(1), Revision: 9000,
	}
	goldenWaited = Record{ // in line, then let in
		Owner: "op-1", Claims: []Claim{Exclusive("volume.v1")}, Phase: Granted, Dispatch: 1, FenceRev: 9000, Era: 1,
		Since: at(0), Granted: at(4), Deadline: at(30), DispatchTo: "req.local.op-1", Payload: []byte("p"), Revision: 9000,
	}
	goldenLock = Lock{
		Key: "snapshot.s1", Mode: ModeShared, Revision: 9000,
		Holders: []Holder{{Owner: "op-1", Since: at(0)}, {Owner: "op-2", Since: at(1)}},
		Line:    []Waiter{{Owner: "op-3", Mode: ModeExclusive, Since: at(2), Deadline: at(32)}, {Owner: "op-4", Mode: ModeShared, Since: at(3)}},
	}
	goldenGrant = Grant{
		owner: "op-1", claims: []Claim{Shared("snapshot.s1"), Exclusive("volume.v9")},
		epoch: 3, position: 7, fence: Fence{Era: 2, Rev: 4711}, revision: 9000,
	}
)

func golden(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGoldenOwnerRecords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file string
		want Record
		zero bool // FenceRev is 0 in the file: the entry's own revision
	}{
		{"owner-v1.msgpack", goldenFull, false},
		{"owner-v1-adopted.msgpack", goldenAdopted, true},
		{"owner-v1-waited.msgpack", goldenWaited, true},
	} {
		data := golden(t, c.file)
		got, err := DecodeRecord(kvtx.Entry{Key: OwnerKey(c.want.Owner), Value: data, Revision: 9000, Exists: true})
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.file, got, c.want)
		}
		if c.zero {
			got.FenceRev = 0
		}
		if enc, err := got.encode(); err != nil || !bytes.Equal(enc, data) {
			t.Errorf("%s: encoded anew it is %q, %v; want the file's %q", c.file, enc, err, data)
		}
	}
}

func TestGoldenLockRecord(t *testing.T) {
	t.Parallel()
	data := golden(t, "lock-v1.msgpack")
	got, err := DecodeLock(kvtx.Entry{Key: LockKey(goldenLock.Key), Value: data, Revision: 9000, Exists: true})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, goldenLock) {
		t.Errorf("\n got %+v\nwant %+v", got, goldenLock)
	}
	if enc, err := got.encode(); err != nil || !bytes.Equal(enc, data) {
		t.Errorf("encoded anew it is %q, %v; want the file's %q", enc, err, data)
	}
}

func TestGoldenGrant(t *testing.T) {
	t.Parallel()
	data := golden(t, "grant-v1.msgpack")
	var got Grant
	if err := got.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, goldenGrant) {
		t.Errorf("\n got %+v\nwant %+v", got, goldenGrant)
	}
	if enc, err := got.MarshalBinary(); err != nil || !bytes.Equal(enc, data) {
		t.Errorf("encoded anew it is %q, %v; want the file's %q", enc, err, data)
	}
}

// envelope writes what a release with another version, kind or set of fields would have written.
func envelope(t *testing.T, fields ...any) []byte {
	t.Helper()
	data, err := msgpack.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestForeignRecordsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	good := map[string]any{"id": "op-1", "phase": "running", "later": []int{1, 2}}
	with := func(key string, value any) map[string]any {
		m := map[string]any{"id": "op-1", "phase": "running"}
		m[key] = value
		return m
	}
	for _, c := range []struct {
		name string
		data []byte
		want error
		text string
	}{
		{"unknown field", envelope(t, 1, kindOwner, good), nil, ""},
		{"newer", envelope(t, 2, kindOwner, "in another shape"), ErrNewer, "format 2, this release reads up to 1: upgrade this program"},
		{"another kind", envelope(t, 1, kindLock, good), ErrBroken, "kind"},
		{"another owner", envelope(t, 1, kindOwner, with("id", "op-2")), ErrBroken, `record of operation "op-2"`},
		{"unknown phase", envelope(t, 1, kindOwner, with("phase", "resting")), ErrBroken, `unknown phase "resting"`},
		{"empty phase", envelope(t, 1, kindOwner, with("phase", "")), ErrBroken, `unknown phase ""`},
		{"unknown mode", envelope(t, 1, kindOwner, with("claims", []any{map[string]any{"k": "a", "m": 3}})), ErrBroken, "unknown mode 3"},
		{"bytes behind it", append(envelope(t, 1, kindOwner, good), 0), ErrBroken, "1 bytes after its end"},
		{"too short", envelope(t, 1, kindOwner, good)[:20], ErrBroken, ""},
		{"empty", nil, ErrBroken, "want [version, kind, fields]"},
	} {
		_, err := DecodeRecord(kvtx.Entry{Key: "op.op-1", Value: c.data, Revision: 1, Exists: true})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		} else if err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: error %q does not say %q", c.name, err, c.text)
		}
	}
}

func TestLocksThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	holder := func(id string) map[string]any { return map[string]any{"o": id, "s": 1} }
	for name, fields := range map[string]map[string]any{
		"two exclusive holders":   {"m": 2, "h": []any{holder("a"), holder("b")}},
		"a mode without a holder": {"m": 1, "h": []any{}},
		"a holder without a mode": {"m": 0, "h": []any{holder("a")}},
		"an unknown mode":         {"m": 3, "h": []any{holder("a")}},
		"a waiter without a mode": {"m": 1, "h": []any{holder("a")}, "l": []any{holder("b")}},
	} {
		_, err := DecodeLock(kvtx.Entry{Key: "lock.k", Value: envelope(t, 1, kindLock, fields), Revision: 1, Exists: true})
		if !errors.Is(err, ErrBroken) {
			t.Errorf("%s: error %v, want %v", name, err, ErrBroken)
		}
	}
	if _, err := DecodeLock(kvtx.Entry{Key: "op.k"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("DecodeLock of an owner key: error %v, want %v", err, ErrInvalid)
	}
}

// A write whose revision is not known yet must not be taken for the fence.
func TestFenceOfAPendingTakeOverStaysOpen(t *testing.T) {
	t.Parallel()
	rec := goldenAdopted
	rec.FenceRev = 0
	value, err := rec.encode()
	if err != nil {
		t.Fatal(err)
	}
	const pending = kvtx.Revision(1<<63 + 1)
	if !pending.Pending() {
		t.Fatal("the test's revision is not a placeholder")
	}
	got, err := DecodeRecord(kvtx.Entry{Key: OwnerKey(rec.Owner), Value: value, Revision: pending, Exists: true})
	if err != nil {
		t.Fatal(err)
	}
	if got.FenceRev != 0 {
		t.Errorf("FenceRev = %d, want 0 until the commit is made", got.FenceRev)
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"owner-v1.msgpack", "owner-v1-adopted.msgpack", "owner-v1-waited.msgpack", "lock-v1.msgpack", "grant-v1.msgpack"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := DecodeRecord(kvtx.Entry{Key: OwnerKey(goldenFull.Owner), Value: data, Revision: 1, Exists: true})
		if err == nil {
			if _, err := rec.encode(); err != nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("record was read and cannot be written: %v", err)
			}
		}
		lock, err := DecodeLock(kvtx.Entry{Key: "lock.snapshot.s1", Value: data, Revision: 1, Exists: true})
		if err == nil {
			if _, err := lock.encode(); err != nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("lock was read and cannot be written: %v", err)
			}
		}
		var g Grant
		if err := g.UnmarshalBinary(data); err == nil && checkOwner(g.Owner()) != nil {
			t.Errorf("grant of owner %q was read", g.Owner())
		}
	})
}
