package block_test

import (
	"math"
	"testing"

	"github.com/scoria-storage/scoria/messages/block"
)

func TestBytesAreSaidInAUnitThatTellsSomething(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[block.Bytes]string{
		-1: "-1 bytes", 0: "0 bytes", 1023: "1023 bytes", 1 << 10: "1 KiB", 204680: "199 KiB", 1<<20 - 1: "1023 KiB", 9 << 20: "9.0 MiB",
		204680 << 10: "199.8 MiB", 1<<30 - 1: "1023.9 MiB", 3 << 29: "1.5 GiB", 20 << 40: "20480.0 GiB", math.MaxInt64: "8589934591.9 GiB",
	} {
		if got := bytes.String(); got != want {
			t.Errorf("%d bytes are %q, want %q", int64(bytes), got, want)
		}
	}
}
