package embednats

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/highwayhash"
)

// blockFile is a file with records of a stream, one after the other. A record is
//
//	length of all of it, its highest bit: it has headers (4 bytes) | sequence, its two highest bits: the record removes that one (8) |
//	time (8) | length of the subject (2) | subject | length of the headers, if any (4) | headers | data | checksum (8)
//
// all little-endian; the checksum is of sequence, time, subject, headers and data.
type blockFile struct {
	path   string
	number int
	hash   checksum

	size, whole int64  // all bytes, and those before the first record that cannot be read
	last        uint64 // highest sequence of the records before
	after       int    // records behind it that are whole,
	lastAfter   uint64 // and their highest sequence
}

const (
	headLen    = 4 + 8 + 8 + 2
	hashLen    = 8
	headersBit = 1 << 31
	seqBits    = 1<<62 - 1
)

// compressed begins a block of a stream with compression: Scoria's has none.
var compressed = []byte("cmp")

// blockFiles are the blocks of a stream, oldest first.
func blockFiles(dir, stream string) ([]*blockFile, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "msgs"))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var all []*blockFile
	for _, e := range entries {
		text, isBlock := strings.CutSuffix(e.Name(), ".blk")
		number, err := strconv.Atoi(text)
		if !isBlock || err != nil {
			continue
		}
		b := &blockFile{path: filepath.Join(dir, "msgs", e.Name()), number: number, hash: newHash(fmt.Sprintf("%s-%d", stream, number))}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b *blockFile) int { return cmp.Compare(a.number, b.number) })
	return all, nil
}

// read reads all records. Errors: the disk cannot read the file; the server could not, either.
func (b *blockFile) read() error {
	data, err := os.ReadFile(b.path)
	if err != nil {
		return err
	}
	b.size = int64(len(data))
	if bytes.HasPrefix(data, compressed) {
		b.whole = b.size
		return nil
	}
	at := 0
	for at < len(data) {
		n, seq := b.record(data[at:])
		if n == 0 {
			break
		}
		at, b.last = at+n, max(b.last, seq)
	}
	b.whole = int64(at)
	for at < len(data) {
		n, seq := b.record(data[at:])
		if n > 0 && seq > 0 {
			b.after++
			b.lastAfter = max(b.lastAfter, seq)
		}
		at += max(n, 1)
	}
	return nil
}

// farSeq is more than a sequence can be beyond those before it in a block. What was found at any place is then seldom taken for a record.
const farSeq = 1 << 32

// record reads the record that data begins with: its length, 0 if there is none, and its sequence.
func (b *blockFile) record(data []byte) (length int, seq uint64) {
	if len(data) < headLen+hashLen {
		return 0, 0
	}
	word := binary.LittleEndian.Uint32(data)
	seq = binary.LittleEndian.Uint64(data[4:]) & seqBits
	subject := int(binary.LittleEndian.Uint16(data[20:]))
	length = int(word &^ headersBit)
	begin := headLen + subject // of what the checksum takes beside the subject
	if word&headersBit != 0 {
		begin += 4
	}
	end := length - hashLen
	if length > len(data) || begin > end || seq > b.last+farSeq {
		return 0, 0
	}
	if !b.hash.sums(data[end:length], data[4:20], data[headLen:headLen+subject], data[begin:end]) {
		return 0, 0
	}
	return length, seq
}

// lost says what whole records stand behind the first one that cannot be read.
func (b *blockFile) lost() string {
	if b.after == 0 {
		return "no whole record in them"
	}
	return fmt.Sprintf("%d whole records in them, up to sequence %d", b.after, b.lastAfter)
}

// checksum is the server's, with a key for each file.
type checksum struct{ hash.Hash }

func newHash(name string) checksum {
	key := sha256.Sum256([]byte(name))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err) // the key has another length than it must have
	}
	return checksum{h}
}

// sums says whether sum is the checksum of the parts.
func (c checksum) sums(sum []byte, parts ...[]byte) bool {
	c.Reset()
	for _, part := range parts {
		_, _ = c.Write(part) // never fails
	}
	var have [hashLen]byte
	return bytes.Equal(sum, c.Sum(have[:0]))
}
