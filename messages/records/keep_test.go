package records

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// newer is what a newer release writes of a record: with two fields that this one does not know, in the middle and at the end.
func newer[T Record](t *testing.T, r T) []byte {
	t.Helper()
	fields, err := fieldsOf(kindOf[T](), Encode(r))
	if err != nil {
		t.Fatal(err)
	}
	list := []byte{0x92, 0x01, 0xa1, 'x'} // [1, "x"]
	fields = append(fields[:1:1], append([]field{{"between", list}}, fields[1:]...)...)
	return encodeFields(kindOf[T](), append(fields, field{"last", []byte{0xc3}}))
}

// TestFieldsOfANewerReleaseSurviveARewrite: known fields are changed, emptied and added, the others stay as they are, and what is not
// changed is the same bytes.
func TestFieldsOfANewerReleaseSurviveARewrite(t *testing.T) {
	t.Parallel()
	r := Backend{Name: "local", Kind: "file", Fencing: "node", Node: "id", NodeName: "n1", KeepsData: true, Zone: "nova"}
	old := newer(t, r)
	if same, err := EncodeOver(old, r); err != nil || !bytes.Equal(same, old) {
		t.Errorf("unchanged: %x, %v; want %x", same, err, old)
	}
	changed := r
	changed.Zone, changed.NodeName, changed.Identity = "", "n2", "X"
	got, err := EncodeOver(old, changed)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Decode[Backend](got); err != nil || !reflect.DeepEqual(back, changed) {
		t.Errorf("changed: reads as %+v, %v; want %+v", back, err, changed)
	}
	fields, err := fieldsOf("backend", got)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"between": {0x92, 0x01, 0xa1, 'x'}, "last": {0xc3}} {
		if f, there := take(&fields, name); !there || !bytes.Equal(f.value, want) {
			t.Errorf("field %s is %x, want %x", name, f.value, want)
		}
	}
}

func TestARewriteOfWhatThisReleaseKnowsIsAnEncode(t *testing.T) {
	t.Parallel()
	before, after := Node{Name: "n1", ID: "id", Backends: []string{"a"}}, Node{Name: "n1", ID: "id", Backends: []string{"a", "b"}, Release: "2"}
	if got, err := EncodeOver(Encode(before), after); err != nil || !bytes.Equal(got, Encode(after)) {
		t.Errorf("EncodeOver = %x, %v; want %x", got, err, Encode(after))
	}
	if _, err := EncodeOver(Encode(before), Pool{}); !errors.Is(err, ErrBroken) {
		t.Errorf("another kind: %v, want ErrBroken", err)
	}
	if _, err := EncodeOver(Encode(before)[:9], after); !errors.Is(err, ErrBroken) {
		t.Errorf("cut: %v, want ErrBroken", err)
	}
}
