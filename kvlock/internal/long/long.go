// Package long is for tests that go on for as long as somebody wants: those of make long.
package long

import (
	"os"
	"testing"
	"time"
)

// For is how long a test goes on that is for make long; without SCORIA_LONG it is skipped.
func For(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv("SCORIA_LONG")
	if text == "" {
		t.Skip("SCORIA_LONG, such as 1h, is not set: make long sets it")
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SCORIA_LONG=%q: want a duration such as 1h", text)
	}
	return d
}
