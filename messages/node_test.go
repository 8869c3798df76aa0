package messages

import "testing"

func TestWhatAProcessServesIsReadAsEarlierReleasesWroteIt(t *testing.T) {
	t.Parallel()
	v := Serving{V: 1, Backends: []Serves{{Backend: "fast"}, {Backend: "local", Away: "the directory is away"}}}
	if err := Decode(goldenFile(t, "serving-1", Encode(&v)), &v); err != nil {
		t.Error(err)
	}
}
