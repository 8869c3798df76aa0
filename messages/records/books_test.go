package records_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages/records"
)

// The room of a small disk is told in units of its size.
func TestTheRoomOfASmallPoolIsTold(t *testing.T) {
	t.Parallel()
	p := records.Pool{TotalBytes: 16 << 20, FreeBytes: 204680, Ratio: 20, AllocatedGiB: 1}
	if got, want := p.Words(), "1 GiB of at most 20.0 × 16.0 MiB are allocated, 199 KiB are free"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
