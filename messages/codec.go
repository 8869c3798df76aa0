package messages

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/scoria-storage/scoria/messages/block"
)

// MaxSize is the largest message that is read, in bytes.
const MaxSize = 256 << 10

const maxDepth = 16

// Encode returns the message's bytes.
func Encode(v any) []byte {
	var buf bytes.Buffer
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(&buf)
	enc.SetSortMapKeys(true)
	enc.UseCompactInts(true)
	if err := enc.Encode(v); err != nil { // our own types hold nothing that cannot be encoded
		panic(fmt.Sprintf("messages: encode %T: %v", v, err))
	}
	return buf.Bytes()
}

// Decode reads one message into v. Errors: *Error with CodeTooLarge or CodeInvalid; v is then not to be used.
func Decode(data []byte, v any) error {
	if len(data) > MaxSize {
		return Errorf(CodeTooLarge, "the message has %d bytes, at most %d are read", len(data), MaxSize)
	}
	if err := checkShape(data); err != nil {
		return Errorf(CodeInvalid, "the message is not MessagePack of this protocol: %v", err)
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(data))
	if err := dec.Decode(v); err != nil {
		return Errorf(CodeInvalid, "the message is not MessagePack of this protocol: %v", err)
	}
	return nil
}

// DecodeRequest reads the fields of a request of the kind and version. It does not validate them.
func DecodeRequest(kind block.Kind, version int, data []byte) (Request, error) {
	req, err := New(kind, version)
	if err != nil {
		return nil, err
	}
	if err := Decode(data, req); err != nil {
		return nil, err
	}
	return req, nil
}

// checkShape walks over one value and refuses what the decoder must not be given: lengths that go past the end,
// nesting without end, a key that stands twice in one map, bytes after the value, and anything but a map at the top.
func checkShape(data []byte) error {
	r := bytes.NewReader(data)
	dec := msgpack.NewDecoder(r)
	code, err := dec.PeekCode()
	if err != nil {
		return errors.New("it is empty")
	}
	if !msgpcode.IsFixedMap(code) && code != msgpcode.Map16 && code != msgpcode.Map32 {
		return errors.New("it is not a map")
	}
	if err := skip(dec, r, data, 0); err != nil {
		return err
	}
	if r.Len() > 0 {
		return fmt.Errorf("%d bytes follow after its end", r.Len())
	}
	return nil
}

func skip(dec *msgpack.Decoder, r *bytes.Reader, data []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	code, err := dec.PeekCode()
	if err != nil {
		return errShort(err)
	}
	var children int
	var keys map[string]struct{}
	switch {
	case msgpcode.IsFixedMap(code), code == msgpcode.Map16, code == msgpcode.Map32:
		n, err := dec.DecodeMapLen()
		if err != nil {
			return errShort(err)
		}
		children, keys = 2*n, make(map[string]struct{}, min(n, 16)) // n is what the message claims
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		n, err := dec.DecodeArrayLen()
		if err != nil {
			return errShort(err)
		}
		children = n
	default:
		return errShort(skipScalar(dec, r, code))
	}
	if children > r.Len() { // each child has one byte at least
		return fmt.Errorf("it names %d values where %d bytes are left", children, r.Len())
	}
	for i := range children {
		start := len(data) - r.Len()
		if err := skip(dec, r, data, depth+1); err != nil {
			return err
		}
		if keys == nil || i%2 == 1 {
			continue
		}
		key := keyText(data[start : len(data)-r.Len()])
		if _, twice := keys[key]; twice {
			return fmt.Errorf("the key %q stands twice in one map", clip(key))
		}
		keys[key] = struct{}{}
	}
	return nil
}

// keyText is a key of a map, which was passed over before. One text may be written in several ways, and is one key to the decoder.
func keyText(key []byte) string {
	switch code := key[0]; {
	case msgpcode.IsFixedString(code):
		return string(key[1:])
	case code == msgpcode.Str8, code == msgpcode.Bin8:
		return string(key[2:])
	case code == msgpcode.Str16, code == msgpcode.Bin16:
		return string(key[3:])
	case code == msgpcode.Str32, code == msgpcode.Bin32:
		return string(key[5:])
	}
	var other any
	if err := msgpack.Unmarshal(key, &other); err != nil {
		return string(key)
	}
	return fmt.Sprint(other)
}

// skipScalar passes over one value that holds no others. Strings and binaries are checked against what is left before
// the decoder may allocate them.
func skipScalar(dec *msgpack.Decoder, r *bytes.Reader, code byte) error {
	if msgpcode.IsString(code) || msgpcode.IsBin(code) {
		n, err := dec.DecodeBytesLen()
		if err != nil {
			return err
		}
		if n > r.Len() {
			return io.ErrUnexpectedEOF
		}
		if n > 0 {
			_, err = r.Seek(int64(n), io.SeekCurrent)
		}
		return err
	}
	if msgpcode.IsExt(code) {
		_, n, err := dec.DecodeExtHeader()
		if err != nil {
			return err
		}
		if n > r.Len() {
			return io.ErrUnexpectedEOF
		}
		_, err = r.Seek(int64(n), io.SeekCurrent)
		return err
	}
	return dec.Skip()
}

func errShort(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends too early")
	}
	return err
}
