package messages

import (
	"errors"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/messages/block"
)

func TestAKeyOfJSONThatStandsTwiceIsFound(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{}`: "", `[]`: "", `5`: "", `"a"`: "", `[{"a":1},{"a":1}]`: "", `{"a":{"a":1},"b":{"a":1}}`: "", `{"a":"a","b":"a"}`: "", `{"a":["a","a"]}`: "", `{"a":"b","b":"c"}`: "",
		`{"a":[],"b":[{"c":{}}],"d":null}`: "", `{"A":1,"a":1}`: "",
		`{"a":1,"a":1}`: "a", `{"a":{"b":1},"a":2}`: "a", `{"x":[1,{"b":[],"c":"b","b":{}}]}`: "b", `[[{"":1,"":2}]]`: "", `{"\u0061":1,"a":2}`: "a",
		`{"a":1`: "", `{"a":1,"a"`: "a", ``: "", `}`: "",
	} {
		got, twice := KeyTwice([]byte(text))
		if got != want || twice != (want != "" || strings.Contains(text, `"":2`)) {
			t.Errorf("%s: %q, %t; want %q", text, got, twice, want)
		}
	}
	if _, twice := KeyTwice([]byte(strings.Repeat(`{"a":`, 100_000))); twice {
		t.Error("a deep one has a key twice")
	}
}

func TestAKeyOfAMessageThatStandsTwiceIsRefused(t *testing.T) {
	t.Parallel()
	volume := append([]byte{0xa6}, "volume"...)
	id := append([]byte{0xd9, 36}, idA...)
	twice := append([]byte{0x82}, strings.Repeat(string(volume)+string(id), 2)...)
	nested := append([]byte{0x82}, string(volume)+string(id)+"\xa1x\x91\x82\x01\xc0\x01\xc0"...)
	all := map[string]string{string(twice): "volume", string(nested): "1"}
	for _, length := range []string{"\xd9\x06", "\xda\x00\x06", "\xdb\x00\x00\x00\x06", "\xc4\x06", "\xc5\x00\x06", "\xc6\x00\x00\x00\x06"} {
		all["\x82"+string(volume)+string(id)+length+"volume"+string(id)] = "volume" // the same text, written in another way
	}
	for data, key := range all {
		_, err := DecodeRequest(block.VolumeDelete, 1, []byte(data))
		want := `the key "` + key + `" stands twice in one map`
		if !errors.Is(err, &Error{Code: CodeInvalid}) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%x: %v, want %s", data, err, want)
		}
	}
	once := append([]byte{0x81}, string(volume)+string(id)...)
	if req, err := DecodeRequest(block.VolumeDelete, 1, once); err != nil || req.Resource() != idA {
		t.Errorf("once: %v, %v", req, err)
	}
}

func BenchmarkDecodeEnvelope(b *testing.B) {
	data := Encode(Envelope{V: 1, Operation: block.OperationID(idA), User: "ann", RequestID: "req-1", Request: Encode(&CreateVolume{SizeGiB: 1, Name: "n"})})
	for b.Loop() {
		var env Envelope
		if err := Decode(data, &env); err != nil {
			b.Fatal(err)
		}
	}
}
