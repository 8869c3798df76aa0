// Package records is what stays in the KV bucket: the formats of all records but kvlock's own, and their keys.
//
// Nouns: a record is one value of the bucket, named by its key; a resource record is a volume, a snapshot or an
// attachment; Quota, Credit, Pool, Backend, Storage and Node are the books.
//
// Format: a MessagePack array of three: the format's version, the kind, the fields as a map with explicit names. Fields are added,
// never renamed, reused or retyped; unknown ones are ignored. Who writes backends and nodes keeps them (EncodeOver), so that a newer
// release finds there what it wrote; what is written at every request loses them. A record of another kind or of a newer version is refused in
// words. Each format has a golden file in testdata that is never edited.
//
// Invariants:
//   - Quota.Use less the credits not yet folded in equals the sum over the project's records (ChargedGiB of volumes,
//     SizeGiB of snapshots), always.
//   - Backend.Identity once set stays, and Storage of that identity names that backend: a storage has one name.
//   - Pool.AllocatedGiB equals the sum of ReservedGiB over the volumes of its backend, always.
//
// It does not read or write the bucket: that is kvlock/kvtx.
package records

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/scoria-storage/scoria/messages/block"
)

// version is the newest format that this release reads and the one it writes.
const version = 1

var (
	// ErrNewer: the record was written by a newer release.
	ErrNewer = errors.New("record is of a newer release")
	// ErrBroken: the bytes are not a record of the kind asked for.
	ErrBroken = errors.New("record cannot be read")
)

// Record is one of the types that this package stores.
type Record interface {
	block.Volume | block.Snapshot | block.Attachment | Quota | Credit | Pool | Backend | Storage | Node | Operation
}

func kindOf[T Record]() string {
	var zero T
	switch any(zero).(type) {
	case block.Volume:
		return "volume"
	case block.Snapshot:
		return "snapshot"
	case block.Attachment:
		return "attachment"
	case Quota:
		return "quota"
	case Credit:
		return "credit"
	case Pool:
		return "pool"
	case Backend:
		return "backend"
	case Storage:
		return "storage"
	case Node:
		return "node"
	case Operation:
		return "operation"
	}
	panic("records: a type of the constraint Record has no kind")
}

// Encode returns the record's bytes.
func Encode[T Record](r T) []byte {
	var buf bytes.Buffer
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(&buf)
	enc.SetSortMapKeys(true)
	enc.UseCompactInts(true)
	err := errors.Join(encodeHead(enc, kindOf[T]()), enc.Encode(&r))
	if err != nil { // the types are ours and hold nothing that cannot be encoded
		panic(fmt.Sprintf("records: encode %T: %v", r, err))
	}
	return buf.Bytes()
}

// encodeHead writes all that stands before the fields of a record.
func encodeHead(enc *msgpack.Encoder, kind string) error {
	return errors.Join(enc.EncodeArrayLen(3), enc.EncodeUint(version), enc.EncodeString(kind))
}

// Decode reads a record of the type asked for. Errors: ErrNewer, ErrBroken.
func Decode[T Record](data []byte) (T, error) {
	var r T
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(data))
	kind := kindOf[T]()
	if err := decodeHead(dec, kind); err != nil {
		return r, err
	}
	if err := dec.Decode(&r); err != nil {
		var zero T
		return zero, fmt.Errorf("%w: %s: %v", ErrBroken, kind, err)
	}
	return r, nil
}

// decodeHead reads all that stands before the fields of a record.
func decodeHead(dec *msgpack.Decoder, want string) error {
	n, err := dec.DecodeArrayLen()
	if err != nil || n != 3 {
		return fmt.Errorf("%w: want [version, kind, fields]", ErrBroken)
	}
	v, err := dec.DecodeUint64()
	if err != nil {
		return fmt.Errorf("%w: version: %v", ErrBroken, err)
	}
	if v > version {
		return fmt.Errorf("%w: %s has format %d, this release reads up to %d", ErrNewer, want, v, version)
	}
	kind, err := dec.DecodeString()
	if err != nil || kind != want {
		return fmt.Errorf("%w: kind %q, want %q", ErrBroken, kind, want)
	}
	return nil
}
