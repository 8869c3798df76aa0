package driver

import (
	"fmt"
	"strings"
)

// Spec is a backend as a person writes it: NAME=KIND[:key=value,…].
type Spec struct {
	Name    string
	Kind    string
	Options []Option // in the order in which they were written, each key once
}

// Option is one key of a Spec with its value.
type Option struct{ Key, Value string }

// ParseSpec reads NAME=KIND[:key=value,…]. It knows nothing of kinds: Registry.Check does.
func ParseSpec(text string) (Spec, error) {
	name, rest, ok := strings.Cut(text, "=")
	if !ok {
		return Spec{}, fmt.Errorf("backend %q: want NAME=KIND[:key=value,…], such as local=file:path=/srv/scoria", text)
	}
	if err := CheckToken("backend name", name); err != nil {
		return Spec{}, err
	}
	kind, settings, more := strings.Cut(rest, ":")
	if kind == "" {
		return Spec{}, fmt.Errorf("backend %s: no kind after the =: want NAME=KIND[:key=value,…], such as local=file:path=/srv/scoria", name)
	}
	s := Spec{Name: name, Kind: kind}
	if !more {
		return s, nil
	}
	for part := range strings.SplitSeq(settings, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" {
			return Spec{}, fmt.Errorf("backend %s: %q is not key=value (a comma separates settings, so a value cannot contain one)", name, part)
		}
		if _, twice := s.Option(key); twice {
			return Spec{}, fmt.Errorf("backend %s: %s is set twice", name, key)
		}
		s.Options = append(s.Options, Option{Key: key, Value: value})
	}
	return s, nil
}

// String returns the spec as ParseSpec reads it.
func (s Spec) String() string {
	var b strings.Builder
	b.WriteString(s.Name + "=" + s.Kind)
	for i, o := range s.Options {
		sep := ","
		if i == 0 {
			sep = ":"
		}
		b.WriteString(sep + o.Key + "=" + o.Value)
	}
	return b.String()
}

// Option returns the value of a key, and whether it was set.
func (s Spec) Option(key string) (string, bool) {
	for _, o := range s.Options {
		if o.Key == key {
			return o.Value, true
		}
	}
	return "", false
}
