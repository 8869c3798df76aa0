package nodelock

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// A lock file is three slots of 512 bytes, each a line of text that a person can read, filled up with blanks. The
// first two hold the record, written in turn: a write that is torn by a loss of power leaves the other one. The third
// is the wish, which is a hint and never synced.
const (
	slotBytes = 512
	slots     = 3
	wishSlot  = 2
	version   = 1
)

// Record is what a lock file says of its last holder.
type Record struct {
	Seq       uint64 // counts the writes of records; the higher of two slots is the valid one
	Fence     driver.Fence
	PID       int
	Start     uint64 // when the process began, in clock ticks since boot: a process ID alone may be used again
	Operation string
}

// same reports whether both name the same holder with the same fence.
func (r Record) same(o Record) bool {
	r.Seq, o.Seq = 0, 0
	return r == o
}

// state is a lock file as it was read.
type state struct {
	holder Record
	wish   Record
	empty  bool // nothing was ever written
}

// highest is the highest fence of which the file knows. A wish counts: somebody was given that fence.
func (s state) highest() driver.Fence {
	if s.holder.Fence.Less(s.wish.Fence) {
		return s.wish.Fence
	}
	return s.holder.Fence
}

// readFile reads all slots. It needs no lock: a record that is just being written does not pass its checksum, and the
// other slot then holds the one before it.
func readFile(file *os.File) (state, error) {
	buf := make([]byte, slots*slotBytes)
	n, err := file.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return state{}, err
	}
	s := state{empty: true}
	for i := range slots {
		if n < (i+1)*slotBytes {
			break
		}
		r, ok, err := decodeSlot(buf[i*slotBytes : (i+1)*slotBytes])
		switch {
		case err != nil:
			return state{}, err
		case !ok:
			continue
		case i == wishSlot:
			s.wish = r
		case s.empty || r.Seq > s.holder.Seq:
			s.holder, s.empty = r, false
		}
	}
	return s, nil
}

// readWish reads the wish alone.
func readWish(file *os.File) (Record, error) {
	buf := make([]byte, slotBytes)
	if _, err := file.ReadAt(buf, wishSlot*slotBytes); err != nil {
		return Record{}, err
	}
	r, _, err := decodeSlot(buf)
	return r, err
}

// writeNew writes all slots, so that later writes need no room on a disk that is full.
func writeNew(file *os.File, r Record) error {
	buf := bytes.Repeat([]byte{' '}, slots*slotBytes)
	copy(buf[r.Seq%2*slotBytes:], encodeSlot(r))
	_, err := file.WriteAt(buf, 0)
	return err
}

func writeHolder(file *os.File, r Record) error {
	_, err := file.WriteAt(encodeSlot(r), int64(r.Seq%2)*slotBytes)
	return err
}

func writeWish(file *os.File, r Record) error {
	_, err := file.WriteAt(encodeSlot(r), wishSlot*slotBytes)
	return err
}

var checksum = crc32.MakeTable(crc32.Castagnoli)

func encodeSlot(r Record) []byte {
	buf := make([]byte, 0, slotBytes)
	buf = fmt.Appendf(buf, "scoria-lock %d seq=%d fence=%s pid=%d start=%d operation=%q", version, r.Seq, r.Fence, r.PID, r.Start, r.Operation)
	buf = fmt.Appendf(buf, " crc=%08x", crc32.Checksum(buf, checksum))
	for len(buf) < slotBytes-1 {
		buf = append(buf, ' ')
	}
	return append(buf, '\n')
}

// decodeSlot returns false for a slot that was never written or was torn, and an error for one of a newer release.
func decodeSlot(slot []byte) (Record, bool, error) {
	text, _, _ := bytes.Cut(slot, []byte{'\n'})
	text = bytes.TrimRight(text, " ")
	at := bytes.LastIndex(text, []byte(" crc="))
	if at < 0 {
		return Record{}, false, nil
	}
	var sum uint32
	var v int
	_, badSum := fmt.Sscanf(string(text[at:]), " crc=%08x", &sum)
	_, badVersion := fmt.Sscanf(string(text), "scoria-lock %d ", &v)
	intact := badSum == nil && badVersion == nil && sum == crc32.Checksum(text[:at], checksum)
	if !intact {
		return Record{}, false, nil
	}
	if v != version {
		return Record{}, false, fmt.Errorf("lock file has format %d, this release knows %d: a newer release uses this folder; start that one", v, version)
	}
	var r Record
	_, err := fmt.Sscanf(string(text[:at]), "scoria-lock %d seq=%d fence=%d.%d pid=%d start=%d operation=%q",
		&v, &r.Seq, &r.Fence.Era, &r.Fence.Rev, &r.PID, &r.Start, &r.Operation)
	if err != nil {
		return Record{}, false, fmt.Errorf("lock file: %q: %w", text, err)
	}
	return r, true, nil
}
