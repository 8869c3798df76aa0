package saga

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// describe writes down the fields of S with their msgpack names and types, nested structs included. Two
// states with the same description read each other's records.
func describe[S any]() string {
	var b strings.Builder
	describeType(&b, reflect.TypeFor[S](), nil)
	return b.String()
}

func describeType(b *strings.Builder, t reflect.Type, within []reflect.Type) {
	for _, w := range within {
		if w == t {
			b.WriteString("recursive " + t.Name())
			return
		}
	}
	within = append(within, t)
	switch {
	case t == reflect.TypeFor[time.Time]():
		b.WriteString("time")
	case t.Kind() == reflect.Pointer:
		b.WriteByte('*')
		describeType(b, t.Elem(), within)
	case t.Kind() == reflect.Slice:
		b.WriteString("[]")
		describeType(b, t.Elem(), within)
	case t.Kind() == reflect.Array:
		fmt.Fprintf(b, "[%d]", t.Len())
		describeType(b, t.Elem(), within)
	case t.Kind() == reflect.Map:
		b.WriteString("map[")
		describeType(b, t.Key(), within)
		b.WriteByte(']')
		describeType(b, t.Elem(), within)
	case t.Kind() == reflect.Struct:
		describeStruct(b, t, within)
	default:
		b.WriteString(t.Kind().String())
	}
}

func describeStruct(b *strings.Builder, t reflect.Type, within []reflect.Type) {
	b.WriteByte('{')
	first := true
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("msgpack"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		if !first {
			b.WriteByte(' ')
		}
		first = false
		b.WriteString(name + ":")
		describeType(b, f.Type, within)
	}
	b.WriteByte('}')
}
