package messages

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/messages/block"
)

var (
	moment = time.Date(2026, 11, 24, 12, 30, 15, 250_000_000, time.UTC)
	idA    = "5a1bd7c0-2f44-4c55-9f0f-0a8f1d0e7a01"
	idB    = "5a1bd7c0-2f44-4c55-9f0f-0a8f1d0e7a02"
	idC    = "5a1bd7c0-2f44-4c55-9f0f-0a8f1d0e7a03"
)

func examples() map[string]Request {
	return map[string]Request{
		"volume.create-1": &CreateVolume{Volume: block.VolumeID(idA), Name: "n", Description: "d", SizeGiB: 3, Type: "t", Zone: "z",
			Metadata: map[string]string{"a": "b"}, FromSnapshot: block.SnapshotID(idB), SnapshotVolume: block.VolumeID(idC), SourceGiB: 2, Backend: "local"},
		"volume.delete-1":   &DeleteVolume{Volume: block.VolumeID(idA)},
		"volume.extend-1":   &ExtendVolume{Volume: block.VolumeID(idA), SizeGiB: 9, AllowAttached: true, FromGiB: 3},
		"volume.extend-2":   &ExtendVolume{Volume: block.VolumeID(idA), SizeGiB: 9, FromGiB: 3, ChargeGiB: 6, Created: moment},
		"volume.revert-1":   &RevertVolume{Volume: block.VolumeID(idA), Snapshot: block.SnapshotID(idB)},
		"volume.attach-1":   &AttachVolume{Volume: block.VolumeID(idA), Attachment: block.AttachmentID(idB), Instance: idC, ReadOnly: true, Connector: []byte(`{}`)},
		"volume.detach-1":   &DetachVolume{Attachment: block.AttachmentID(idA), Volume: block.VolumeID(idB)},
		"snapshot.create-1": &CreateSnapshot{Snapshot: block.SnapshotID(idA), Volume: block.VolumeID(idB), Name: "n", Description: "d", Metadata: map[string]string{"k": "v"}, AllowAttached: true, SizeGiB: 3, Backend: "local"},
		"snapshot.delete-1": &DeleteSnapshot{Snapshot: block.SnapshotID(idA), Volume: block.VolumeID(idB)},
	}
}

func goldenFile(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("SCORIA_NEW_GOLDEN") != "" {
		text = []byte(hex.EncodeToString(now) + "\n")
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, now) {
		t.Errorf("%s: the format changed: fields are only added, with omitempty", name)
	}
	return data
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The golden files are never edited: earlier releases wrote them.
func TestRequestsOfEarlierReleasesAreRead(t *testing.T) {
	t.Parallel()
	seen := map[block.Kind]bool{}
	for name, want := range examples() {
		data := goldenFile(t, name, Encode(want))
		got, err := DecodeRequest(want.Kind(), want.Version(), data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if asJSON(t, got) != asJSON(t, want) {
			t.Errorf("%s reads as %s, want %s", name, asJSON(t, got), asJSON(t, want))
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: Validate = %v", name, err)
		}
		if len(got.Claims()) == 0 || got.Resource() == "" {
			t.Errorf("%s: claims %v, resource %q", name, got.Claims(), got.Resource())
		}
		seen[want.Kind()] = true
	}
	for _, kind := range block.Kinds() {
		if !seen[kind] {
			t.Errorf("kind %s has no golden file", kind)
		}
	}
}

func TestEnvelopesOfEarlierReleasesAreRead(t *testing.T) {
	t.Parallel()
	op := Operation{ID: block.OperationID(idA), Kind: block.VolumeCreate, Project: "demo", User: "ann", Resource: idB, Phase: "running", Step: "create",
		Steps: []string{"reserve", "create"}, Done: 1, Attempt: 2, Error: "e", Worker: "w", Epoch: 1, ProgressDone: 1, ProgressTotal: 2, Submitted: moment, EndedAt: moment,
		Claims: []Claim{{"volume." + idB, "exclusive"}}}
	overtaken := op
	overtaken.TakenOver, overtaken.StepWaits = 1, "waits since 3s for the lock"
	for name, v := range map[string]any{
		"envelope-1":  &Envelope{V: 1, Operation: block.OperationID(idA), User: "ann", RequestID: "req-1", OnConflict: "refuse", Sent: moment, RequestVersion: 1, Request: Encode(&DeleteVolume{Volume: block.VolumeID(idA)})},
		"query-1":     &Query{V: 1, Operation: block.OperationID(idA), Wait: time.Second},
		"reply-1":     &Reply{V: 1, Operation: &op},
		"reply-2":     &Reply{V: 1, Operation: &overtaken},
		"refusal-1":   &Reply{V: 1, Error: &Error{Code: CodeInvalidVolume, Message: "m", Field: "f", Holder: &Holder{Operation: block.OperationID(idA), Kind: block.VolumeExtend, Mode: "exclusive", Step: "grow", Since: moment}}},
		"update-1":    &Update{V: 1, Operation: op, At: moment},
		"list-1":      &ListObjects{V: 1, Backend: "local", AfterClass: "volume", AfterID: idA},
		"objects-1":   &Objects{V: 1, Objects: []Object{{"volume", idA, 1 << 30}}, More: true},
		"objects-2":   &Objects{V: 1, Identity: "KQZPEXMRLSDHJ4WFEA2UT7VNBC", KeepsNoData: true},
		"fence-1":     &RaiseFence{V: 1, Operation: block.OperationID(idA)},
		"raised-1":    &FenceRaised{V: 1, Error: &Error{Code: CodeConflict, Message: "m"}},
		"room-1":      &Room{V: 1, Short: "the disk is full"},
		"processes-1": &Processes{V: 1, Processes: []string{"n1-AAAAAAAAAA", "n1-BBBBBBBBBB"}},
	} {
		if err := Decode(goldenFile(t, name, Encode(v)), v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBrokenMessagesAreRefusedInWords(t *testing.T) {
	t.Parallel()
	good := Encode(&DeleteVolume{Volume: block.VolumeID(idA)})
	deep := append(bytes.Repeat([]byte{0x81, 0xa1, 'a'}, 100), 0xc0)
	for name, c := range map[string]struct {
		data []byte
		code Code
	}{
		"empty":            {nil, CodeInvalid},
		"JSON":             {[]byte(`{"volume":"x"}`), CodeInvalid},
		"an array":         {[]byte{0x90}, CodeInvalid},
		"trailing":         {append(bytes.Clone(good), 0xc0), CodeInvalid},
		"cut":              {good[:len(good)-3], CodeInvalid},
		"wrong type":       {Encode(map[string]any{"volume": 7}), CodeInvalid},
		"huge map":         {[]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, CodeInvalid},
		"huge string":      {[]byte{0x81, 0xdb, 0xff, 0xff, 0xff, 0xff}, CodeInvalid},
		"nested too deep":  {deep, CodeInvalid},
		"larger than read": {make([]byte, MaxSize+1), CodeTooLarge},
	} {
		_, err := DecodeRequest(block.VolumeDelete, 1, c.data)
		if !errors.Is(err, &Error{Code: c.code}) {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if _, err := DecodeRequest("volume.explode", 1, good); !errors.Is(err, &Error{Code: CodeUnsupported}) {
		t.Errorf("unknown kind: %v", err)
	}
	if _, err := DecodeRequest(block.VolumeDelete, 2, good); !errors.Is(err, &Error{Code: CodeUnsupported}) {
		t.Errorf("newer version: %v", err)
	}
}

func TestUnknownFieldsOfAKnownVersionAreIgnored(t *testing.T) {
	t.Parallel()
	req, err := DecodeRequest(block.VolumeDelete, 1, Encode(map[string]any{"volume": idA, "later": map[string]any{"x": []int{1}}}))
	if err != nil || req.Resource() != idA {
		t.Errorf("got %v, %v", req, err)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		req   Request
		field string
	}{
		{&CreateVolume{SizeGiB: -1}, "size"},
		{&CreateVolume{SizeGiB: 0}, "size"},
		{&CreateVolume{SizeGiB: 1e18}, "size"},
		{&CreateVolume{SizeGiB: 1, Name: long}, "name"},
		{&CreateVolume{SizeGiB: 1, Description: long}, "description"},
		{&CreateVolume{SizeGiB: 1, Name: "\xff"}, "name"},
		{&CreateVolume{SizeGiB: 1, Metadata: map[string]string{"": "x"}}, "metadata"},
		{&CreateVolume{SizeGiB: 1, FromVolume: "../../etc/passwd"}, "source_volid"},
		{&CreateVolume{SizeGiB: 1, FromVolume: block.VolumeID(idA), FromSnapshot: block.SnapshotID(idB)}, "source_volid"},
		{&CreateVolume{Volume: "x.>", SizeGiB: 1}, "volume"},
		{&DeleteVolume{}, "volume"},
		{&ExtendVolume{Volume: block.VolumeID(idA)}, "new_size"},
		{&RevertVolume{Volume: block.VolumeID(idA)}, "snapshot_id"},
		{&AttachVolume{Volume: block.VolumeID(idA), Connector: make([]byte, 1<<20)}, "connector"},
		{&AttachVolume{Volume: block.VolumeID(idA), Connector: []byte(`[]`)}, "connector"},
		{&AttachVolume{Volume: block.VolumeID(idA), Connector: []byte(`null`)}, "connector"},
		{&AttachVolume{Volume: block.VolumeID(idA), Connector: []byte(`{"host": "a"`)}, "connector"},
		{&AttachVolume{Volume: block.VolumeID(idA), Connector: []byte(`{"host": 5}`)}, "connector"},
		{&AttachVolume{Volume: block.VolumeID(idA), Connector: []byte(`{"mountpoint": {}}`)}, "connector"},
		{&AttachVolume{Volume: block.VolumeID(idA), Connector: []byte(`{"host": "a", "host": "b"}`)}, "connector"},
		{&DetachVolume{Attachment: "*"}, "attachment"},
		{&CreateSnapshot{Volume: "x"}, "volume_id"},
		{&DeleteSnapshot{Snapshot: "x"}, "snapshot"},
	} {
		err := c.req.Validate()
		var e *Error
		if !errors.As(err, &e) || e.Field != c.field || e.Code != CodeInvalid {
			t.Errorf("%T %+v: %v, want a refusal of %s", c.req, c.req, err, c.field)
		}
	}
}

func TestWhatStandsAroundARequestCanBePrinted(t *testing.T) {
	t.Parallel()
	for s, ok := range map[string]bool{
		"": true, "ann": true, "Ann Müller 山田\u3000太郎 👩": true, strings.Repeat("é", 255): true,
		strings.Repeat("é", 256): false, "\xff": false, "a\x00b": false, "a\nb": false, "a\tb": false, "\x1b[31m": false, "\x7f": false,
		"\u0085": false, "\u009b31m": false, "\u202eevil": false, "\u2028": false, "\u200b": false,
	} {
		for field, env := range map[string]Envelope{"user": {V: EnvelopeVersion, User: s}, "request_id": {V: EnvelopeVersion, RequestID: s}} {
			err := env.Validate()
			var e *Error
			if ok != (err == nil) || err != nil && (!errors.As(err, &e) || e.Field != field || e.Code != CodeInvalid) {
				t.Errorf("%s %.20q: %v, want it taken: %t", field, s, err, ok)
			}
		}
	}
}

func TestPhasesAreThoseOfOperations(t *testing.T) {
	t.Parallel()
	if got, want := strings.Join(Phases(), " "), "queued granted running undoing done undone stuck void"; got != want {
		t.Errorf("phases are %q, want %q", got, want)
	}
}

func TestSubjectsAreReadBack(t *testing.T) {
	t.Parallel()
	for _, kind := range block.Kinds() {
		project, got, err := ParseSubmit(SubmitSubject("demo", kind))
		if err != nil || project != "demo" || got != kind {
			t.Errorf("%s: %s %s %v", kind, project, got, err)
		}
	}
	for _, s := range []string{"", "scoria.v1.submit.demo", "scoria.v1.submit..volume.create", "scoria.v1.submit.demo.volume.explode", "x.demo.volume.create"} {
		if _, _, err := ParseSubmit(s); err == nil {
			t.Errorf("ParseSubmit(%q) took it", s)
		}
	}
}

func TestCodesAreDistinct(t *testing.T) {
	t.Parallel()
	seen := map[Code]bool{}
	for _, c := range []Code{
		CodeInvalid, CodeInvalidVolume, CodeInvalidSnapshot, CodeInvalidAttachment, CodeConflict, CodeNotFound, CodeQuota,
		CodeTooLarge, CodeNoBackend, CodeUnsupported, CodeUnavailable, CodeBusy, CodeReused, CodeFailed, CodeInternal,
	} {
		if c == "" || seen[c] {
			t.Errorf("code %q is empty or twice in the list", c)
		}
		seen[c] = true
		if got := AsError(Errorf(c, "x")); got.Code != c {
			t.Errorf("AsError of %s = %s", c, got.Code)
		}
	}
	if got := AsError(errors.New("x")); got.Code != CodeInternal {
		t.Errorf("AsError of another error = %s", got.Code)
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range examples() {
		f.Add(string(r.Kind()), Encode(r))
	}
	f.Add("volume.create", []byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Add("volume.create", []byte{0x81, 0xa4, 's', 'i', 'z', 'e', 0xc7, 0xff, 1})
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		req, err := DecodeRequest(block.Kind(kind), 1, data)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Message == "" {
				t.Fatalf("error without a code: %v", err)
			}
			return
		}
		if req.Validate() == nil { // what is valid can be written and read again
			if _, err := DecodeRequest(req.Kind(), 1, Encode(req)); err != nil {
				t.Fatalf("%+v cannot be read back: %v", req, err)
			}
		}
		var env Envelope
		_ = Decode(data, &env)
	})
}
