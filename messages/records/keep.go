package records

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/vmihailenco/msgpack/v5"
)

// EncodeOver returns the record's bytes with those fields of old, its bytes so far, that this release does not know: a newer one
// wrote them. It costs several times what Encode does. Errors: ErrNewer, ErrBroken.
func EncodeOver[T Record](old []byte, r T) ([]byte, error) {
	kind, value := kindOf[T](), Encode(r)
	was, err := fieldsOf(kind, old)
	if err != nil {
		return nil, err
	}
	is, err := fieldsOf(kind, value)
	if err != nil {
		return nil, err
	}
	kept, known := 0, namesOf(reflect.TypeFor[T]())
	var all []field // in the order of old, so that what did not change is the same bytes
	for _, f := range was {
		switch now, there := take(&is, f.name); {
		case there:
			all = append(all, now)
		case !known[f.name]:
			all = append(all, f)
			kept++
		}
	}
	if kept == 0 {
		return value, nil
	}
	return encodeFields(kind, append(all, is...)), nil
}

// field is a field of a record with its encoded value.
type field struct {
	name  string
	value msgpack.RawMessage
}

// take removes the field from the list and returns it.
func take(fields *[]field, name string) (field, bool) {
	for i, f := range *fields {
		if f.name == name {
			*fields = append((*fields)[:i:i], (*fields)[i+1:]...)
			return f, true
		}
	}
	return field{}, false
}

func fieldsOf(kind string, data []byte) ([]field, error) {
	dec := msgpack.NewDecoder(bytes.NewReader(data))
	if err := decodeHead(dec, kind); err != nil {
		return nil, err
	}
	n, err := dec.DecodeMapLen()
	var fields []field
	for i := 0; i < n && err == nil; i++ {
		var f field
		if f.name, err = dec.DecodeString(); err == nil {
			f.value, err = dec.DecodeRaw()
		}
		fields = append(fields, f)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrBroken, kind, err)
	}
	return fields, nil
}

func encodeFields(kind string, fields []field) []byte {
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.UseCompactInts(true)
	err := errors.Join(encodeHead(enc, kind), enc.EncodeMapLen(len(fields)))
	for _, f := range fields {
		err = errors.Join(err, enc.EncodeString(f.name), enc.Encode(f.value))
	}
	if err != nil {
		panic(fmt.Sprintf("records: encode fields of %s: %v", kind, err)) // the buffer takes all, and the values were decoded
	}
	return buf.Bytes()
}

// namesOf are the names of the fields that this release has, also of those that are left out while they are empty.
func namesOf(t reflect.Type) map[string]bool {
	names := make(map[string]bool)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("msgpack"), ",")
		names[name] = true
	}
	return names
}
