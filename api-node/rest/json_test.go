package rest

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func FuzzAppendStringIsJSON(f *testing.F) {
	for _, s := range []string{"", "a", `"\/`, "\x00\x1f\x7f\n\r\t", "äöü€😀", "\xff\xfea\xc3", "\u2028</script>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		b := appendString(nil, s)
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("appendString(%q) = %s: %v", s, b, err)
		}
		if utf8.ValidString(s) && got != s {
			t.Errorf("appendString(%q) reads back as %q", s, got)
		}
		if !utf8.Valid(b) {
			t.Errorf("appendString(%q) = %q is not UTF-8", s, b)
		}
	})
}
