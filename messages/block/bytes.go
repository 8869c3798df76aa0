package block

import "fmt"

// Bytes is an amount of bytes, for people: as a text it has the largest unit of which it is at least one. What the text leaves out is cut
// off, so that room is never said to be more than there is.
type Bytes int64

// String returns such as "512 bytes", "196 KiB", "9.0 MiB" and "1.5 GiB".
func (b Bytes) String() string {
	switch {
	case b < 1<<10:
		return fmt.Sprintf("%d bytes", int64(b))
	case b < 1<<20:
		return fmt.Sprintf("%d KiB", int64(b>>10))
	case b < 1<<30:
		return b.tenths(1<<20, "MiB")
	}
	return b.tenths(1<<30, "GiB")
}

func (b Bytes) tenths(unit Bytes, name string) string {
	return fmt.Sprintf("%d.%d %s", b/unit, b%unit*10/unit, name)
}
