package kvlock

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Every value is a MessagePack array of three: the format's version, the kind, and the fields as a map with explicit
// names. Fields are added, never renamed, reused or retyped; unknown ones are ignored. Times are milliseconds since
// 1970 UTC, 0 for none.
const version = 1

const (
	kindOwner = "kvlock.owner"
	kindLock  = "kvlock.lock"
	kindGrant = "kvlock.grant"
)

func encode(kind string, fields any) ([]byte, error) {
	var buf bytes.Buffer
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(&buf)
	enc.UseCompactInts(true)
	err := errors.Join(enc.EncodeArrayLen(3), enc.EncodeUint(version), enc.EncodeString(kind), enc.Encode(fields))
	if err != nil {
		return nil, fmt.Errorf("encode %s: %v", kind, err)
	}
	return buf.Bytes(), nil
}

func decode(kind string, data []byte, fields any) error {
	r := bytes.NewReader(data)
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(r)
	if n, err := dec.DecodeArrayLen(); err != nil || n != 3 {
		return fmt.Errorf("%w: not a %s: want [version, kind, fields]", ErrBroken, kind)
	}
	v, err := dec.DecodeUint64()
	if err != nil {
		return fmt.Errorf("%w: %s: its version: %v", ErrBroken, kind, err)
	}
	if v > version {
		return fmt.Errorf("%w: %s of format %d, this release reads up to %d: upgrade this program", ErrNewer, kind, v, version)
	}
	if got, err := dec.DecodeString(); err != nil || got != kind {
		return fmt.Errorf("%w: kind %.40q, want %s", ErrBroken, got, kind)
	}
	if err := dec.Decode(fields); err != nil {
		return fmt.Errorf("%w: %s: %v", ErrBroken, kind, err)
	}
	if r.Len() > 0 {
		return fmt.Errorf("%w: %s: %d bytes after its end", ErrBroken, kind, r.Len())
	}
	return nil
}

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
