package harness

import (
	"bytes"
	le "encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// BlockBytes is the size of the blocks of a Content.
const BlockBytes = 4096

// Content is what a volume should hold: tags by the number of their block. Each tag stands for a whole block of bytes,
// which depend on the number, too; a block without a tag is zero. No tag is 0.
type Content map[int64]uint64

// Clone returns a copy.
func (c Content) Clone() Content {
	out := make(Content, len(c))
	maps.Copy(out, c)
	return out
}

// Differs says where the two differ; "" if they do not.
func (c Content) Differs(have Content) string {
	var blocks []int64
	for n := range c {
		if have[n] != c[n] {
			blocks = append(blocks, n)
		}
	}
	for n := range have {
		if _, ok := c[n]; !ok {
			blocks = append(blocks, n)
		}
	}
	if len(blocks) == 0 {
		return ""
	}
	slices.Sort(blocks)
	n := blocks[0]
	return fmt.Sprintf("%d of %d blocks differ, first block %d: have tag %#x, want %#x", len(blocks), len(c), n, have[n], c[n])
}

// Block returns the bytes of a block.
func Block(n int64, tag uint64) []byte {
	b := make([]byte, BlockBytes)
	fill(b, n, tag)
	return b
}

func fill(b []byte, n int64, tag uint64) {
	le.LittleEndian.PutUint64(b, tag)
	x := tag ^ uint64(n)*0x9E3779B97F4A7C15
	for i := 8; i < len(b); i += 8 { // splitmix64
		x += 0x9E3779B97F4A7C15
		z := (x ^ x>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		le.LittleEndian.PutUint64(b[i:], z^z>>31)
	}
}

var zeroBlock = make([]byte, BlockBytes)

// Tag reads a block: its tag, or 0 if it is zero. Anything else is an error.
func Tag(n int64, b []byte) (uint64, error) {
	if bytes.Equal(b, zeroBlock) {
		return 0, nil
	}
	want := make([]byte, BlockBytes)
	tag := le.LittleEndian.Uint64(b)
	if fill(want, n, tag); !bytes.Equal(b, want) {
		return 0, fmt.Errorf("block %d holds what nobody wrote there: % x…", n, b[:16])
	}
	return tag, nil
}

// ReadContent reads all of a file: every byte of it is checked.
func ReadContent(path string) (Content, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	c, size := Content{}, info.Size()
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		from -= from % BlockBytes
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		if at = from + int64(n); n == 0 {
			break
		}
		for i := 0; i+BlockBytes <= n; i += BlockBytes {
			number := from/BlockBytes + int64(i/BlockBytes)
			tag, err := Tag(number, buf[i:i+BlockBytes])
			if err != nil {
				return nil, 0, fmt.Errorf("%s: %w", path, err)
			}
			if tag != 0 {
				c[number] = tag
			}
		}
	}
	return c, size, nil
}

// WriteContent writes blocks into the file of a volume that no host has.
func WriteContent(path string, blocks Content) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for n, tag := range blocks {
		if _, err := f.WriteAt(Block(n, tag), n*BlockBytes); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}
