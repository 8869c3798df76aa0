package saga

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// goldenRecord has every field set, so that the golden file names them all.
func goldenRecord() record {
	return record{
		V: 1, Name: "volume.create", Version: 3, Phase: Stuck, From: Undoing, Step: 2, Left: 1, At: "reserve", Steps: 4,
		Past: true, Begun: true, Unknown: true, Tried: 2, Lost: 1, Epoch: 4, Since: 1_700_000_000_123, Started: 1_700_000_000_000, Ended: 1_700_000_000_456,
		State: []byte{0x81, 0xa1, 'n', 0x01}, Failed: 5,
		Last:  []attempt{{Step: "reserve", Undo: true, N: 2, At: 1_700_000_000_200, Took: 17, Kind: "retry", Err: "no answer"}},
		Cause: &cause{Step: "copy", Code: "no-space", Message: "the pool is full", Cancel: true},
		Stuck: &cause{Step: "reserve", Code: "c", Message: "no answer", Cancel: true},
	}
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The golden file is never edited: it stands for the records that earlier releases wrote. A field that is added
// gets a new file.
func TestRecordGolden(t *testing.T) {
	t.Parallel()
	before := goldenRecord()
	before.Lost, before.Epoch = 0, 0
	for name, want := range map[string]record{"record_v1.hex": before, "record_v1_lost.hex": goldenRecord()} {
		file := golden(t, name)
		r, err := decodeRecord(file)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r, want) {
			t.Errorf("%s reads as\n%+v, want\n%+v", name, r, want)
		}
		b, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(b) != hex.EncodeToString(file) {
			t.Errorf("the record is written as\n%x, in %s it is\n%x", b, name, file)
		}
	}
}

func TestGoldenRecordHasEveryField(t *testing.T) {
	t.Parallel()
	for _, v := range []any{goldenRecord(), goldenRecord().Last[0], *goldenRecord().Cause} {
		rv := reflect.ValueOf(v)
		for i := range rv.NumField() {
			if rv.Field(i).IsZero() {
				t.Errorf("%T.%s is not set in the golden record", v, rv.Type().Field(i).Name)
			}
			if rv.Type().Field(i).Tag.Get("msgpack") == "" {
				t.Errorf("%T.%s has no msgpack tag", v, rv.Type().Field(i).Name)
			}
		}
	}
}

func TestFieldsOfANewerReleaseAreKeptOutOfDecisions(t *testing.T) {
	t.Parallel()
	r := goldenRecord()
	b, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	if b[0] != 0xde { // map16: the count is in two bytes
		t.Fatalf("the record begins with %x, not with a map of more than 15 fields", b[0])
	}
	b[2]++
	b = append(b, 0xa3, 'n', 'e', 'w', 0xc3) // "new": true
	got, err := decodeRecord(b)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("a record with one more field reads as %+v, %v", got, err)
	}
}

func TestForeignRecordsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	change := func(f func(*record)) []byte {
		r := goldenRecord()
		f(&r)
		b, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"newer":       change(func(r *record) { r.V = 2 }),
		"no version":  change(func(r *record) { r.V = 0 }),
		"no name":     change(func(r *record) { r.Name = "" }),
		"no phase":    change(func(r *record) { r.Phase = 0 }),
		"wild phase":  change(func(r *record) { r.Phase = 99 }),
		"step beyond": change(func(r *record) { r.Step = 5 }),
		"step below":  change(func(r *record) { r.Step = -1 }),
		"left beyond": change(func(r *record) { r.Left = 5 }),
		"stuck where": change(func(r *record) { r.From = Done }),
		"not msgpack": []byte("hello"),
		"an array":    {0x93, 1, 2, 3},
		"cut":         goldenCut(t),
	} {
		if _, err := Fold(b); !errors.Is(err, ErrFormat) {
			t.Errorf("Fold of a record (%s) = %v, want ErrFormat", name, err)
		}
	}
	if _, err := Fold(change(func(r *record) { r.V = 2 })); err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("Fold of format 2 = %v, want words", err)
	}
	if st, err := Fold(nil); err != nil || st.Phase != Pending {
		t.Errorf("Fold(nil) = %s, %v; want pending", st.Phase, err)
	}
}

func goldenCut(t *testing.T) []byte { b := golden(t, "record_v1.hex"); return b[:len(b)/2] }

func FuzzFold(f *testing.F) {
	r := goldenRecord()
	b, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := Fold(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("Fold = %v, want ErrFormat", err)
			}
			return
		}
		if st.Index < 0 || st.Index > st.Steps {
			t.Errorf("Fold gives step %d of %d", st.Index, st.Steps)
		}
		if _, err := Resumed(b); err != nil && st.Phase == Stuck {
			t.Errorf("Resumed of a stuck record = %v", err)
		}
	})
}

func TestPhasesMoveOnlyAsTheTableSays(t *testing.T) {
	t.Parallel()
	all := []Phase{Pending, Running, Undoing, Done, Undone, Stuck}
	for _, p := range all {
		if strings.HasPrefix(p.String(), "unknown") || len(moves[p]) == 0 != p.Ended() {
			t.Errorf("phase %s has moves %v", p, moves[p])
		}
		for _, to := range all {
			if p.MayMove(to) && (to == Pending || p == Undoing && (to == Running || to == Done)) {
				t.Errorf("a run may go from %s to %s", p, to)
			}
		}
	}
}
