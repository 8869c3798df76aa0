package rest

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/scoria-storage/scoria/messages/block"
)

// schema says what a JSON value must look like: the part of JSON Schema draft 4 that the Block Storage API uses, with the
// wording that its clients know.
type schema struct {
	types  []string // allowed types; none: any
	minLen int
	maxLen int // characters; 0: no bound
	// pattern binds strings only, min and max bind numbers and strings that are numbers, as in Cinder.
	pattern  *regexp.Regexp
	min, max int64 // max 0: no bounds
	uuid     bool
	// text255 names the value in the message for texts of more than 255 characters after trimming.
	text255 string
	enum    []any
	// alternatives: one of them must fit.
	alternatives []*schema

	props    []prop
	required []string
	anyOf    []string // at least one of these properties
	// patternProps binds all properties; keyPattern is what their names must look like.
	keyPattern  *regexp.Regexp
	patternProp *schema
	minProps    int
	open        bool // further properties are allowed
}

type prop struct {
	name string
	s    *schema
}

// invalid is where and why a value does not fit.
type invalid struct {
	path    string // the innermost property
	value   any
	message string
	whole   string // the whole text, where it has a form of its own
}

// check returns a 400 that says what does not fit.
func (s *schema) check(v any) error {
	bad := s.validate("", v)
	switch {
	case bad == nil:
		return nil
	case bad.whole != "":
		return badRequest("%s", bad.whole)
	case bad.path == "":
		return badRequest("%s", bad.message)
	}
	return badRequest("Invalid input for field/attribute %s. Value: %s. %s", clip(bad.path), clip(pyStr(bad.value)), bad.message)
}

func (s *schema) validate(path string, v any) *invalid {
	fail := func(format string, args ...any) *invalid {
		return &invalid{path: path, value: v, message: fmt.Sprintf(format, args...)}
	}
	if len(s.types) > 0 && !slices.Contains(s.types, typeOf(v)) {
		return fail("%s is not of type %s", pyShort(v), quoted(s.types))
	}
	if bad := s.validateScalar(v, fail); bad != nil {
		return bad
	}
	if len(s.alternatives) > 0 && !slices.ContainsFunc(s.alternatives, func(a *schema) bool { return a.validate(path, v) == nil }) {
		return fail("%s is not valid under any of the given schemas", pyShort(v))
	}
	if o, ok := v.(object); ok {
		return s.validateObject(o, fail)
	}
	return nil
}

func (s *schema) validateScalar(v any, fail func(string, ...any) *invalid) *invalid {
	if text, ok := v.(string); ok {
		n := utf8.RuneCountInString(text)
		switch {
		case n < s.minLen:
			return fail("%s is too short", pyShort(v))
		case s.maxLen > 0 && n > s.maxLen:
			return fail("%s is too long", pyShort(v))
		case s.pattern != nil && !s.pattern.MatchString(text):
			return fail("%s does not match %s", pyShort(v), pyRepr(s.pattern.String()))
		case s.uuid && canonicalUUID(text) == "":
			return fail("%s is not a 'uuid'", pyShort(v))
		}
		if n := utf8.RuneCountInString(strings.TrimSpace(text)); s.text255 != "" && n > 255 {
			return &invalid{whole: fmt.Sprintf("Invalid input received: %s has %d characters, more than 255.", s.text255, n)}
		}
	}
	if s.max > 0 {
		if n, ok := number(v); ok {
			if n.Cmp(new(big.Float).SetInt64(s.min)) < 0 {
				return fail("%s is less than the minimum of %d", pyShort(v), s.min)
			}
			if n.Cmp(new(big.Float).SetInt64(s.max)) > 0 {
				return fail("%s is greater than the maximum of %d", pyShort(v), s.max)
			}
		}
	}
	if s.enum != nil && !slices.ContainsFunc(s.enum, func(e any) bool { return e == v }) {
		return fail("%s is not one of %s", pyShort(v), pyRepr(s.enum))
	}
	return nil
}

func (s *schema) validateObject(o object, fail func(string, ...any) *invalid) *invalid {
	for _, p := range s.props {
		if v, ok := o[p.name]; ok {
			if bad := p.s.validate(p.name, v); bad != nil {
				return bad
			}
		}
	}
	if len(s.anyOf) > 0 && !slices.ContainsFunc(s.anyOf, func(name string) bool { _, ok := o[name]; return ok }) {
		return fail("%s is not valid under any of the given schemas", pyShort(o))
	}
	for _, name := range s.required {
		if _, ok := o[name]; !ok {
			return fail("%s is a required property", pyRepr(name))
		}
	}
	if len(o) < s.minProps {
		return fail("%s does not have enough properties", pyShort(o))
	}
	if s.keyPattern != nil {
		return s.validateMap(o, fail)
	}
	if s.open || s.props == nil {
		return nil
	}
	var extra []string
	for name := range o {
		if !slices.ContainsFunc(s.props, func(p prop) bool { return p.name == name }) {
			extra = append(extra, name)
		}
	}
	if extra == nil {
		return nil
	}
	return fail("Additional properties are not allowed (%s unexpected)", listed(extra, "was", "were"))
}

// validateMap checks an object of free names.
func (s *schema) validateMap(o object, fail func(string, ...any) *invalid) *invalid {
	var bad []string
	for _, name := range sortedKeys(o) {
		if !s.keyPattern.MatchString(name) {
			bad = append(bad, name)
			continue
		}
		if bad := s.patternProp.validate(name, o[name]); bad != nil {
			return bad
		}
	}
	if bad == nil {
		return nil
	}
	return fail("%s not match any of the regexes: %s", listed(bad, "does", "do"), pyRepr(s.keyPattern.String()))
}

func listed(names []string, one, many string) string {
	sort.Strings(names)
	const most = 10
	verb := many
	if len(names) == 1 {
		verb = one
	}
	parts := make([]string, 0, most)
	for i, n := range names {
		if i == most {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, pyRepr(clip(n)))
	}
	return strings.Join(parts, ", ") + " " + verb
}

func quoted(names []string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = "'" + n + "'"
	}
	return strings.Join(parts, ", ")
}

func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		if strings.ContainsAny(string(v), ".eE") {
			return "number"
		}
		return "integer"
	case []any:
		return "array"
	}
	return "object"
}

// number reads a number or a string that is one.
func number(v any) (*big.Float, bool) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = string(v)
	case string:
		s = strings.TrimSpace(v)
	default:
		return nil, false
	}
	const longest = 400 // digits of the largest float64, and some
	if rest, negative := strings.CutPrefix(s, "-"); len(s) > longest && digits(rest) {
		return new(big.Float).SetInf(negative), true
	}
	if s == "" || len(s) > longest {
		return nil, false
	}
	f, _, err := big.ParseFloat(s, 10, 128, big.ToNearestEven)
	return f, err == nil
}

// canonicalUUID returns the UUID that the text means, in the form that IDs have; "" if it means none. Hyphens, braces,
// upper case and "urn:uuid:" are as in Python's uuid module.
func canonicalUUID(s string) string {
	if block.IsUUID(s) {
		return s
	}
	const longest = 64
	if len(s) > longest {
		return ""
	}
	s = strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(s), "urn:", ""), "uuid:", "")
	s = strings.ReplaceAll(strings.Trim(s, "{}"), "-", "")
	if len(s) != 32 {
		return ""
	}
	s = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	if !block.IsUUID(s) {
		return ""
	}
	return s
}

func sortedKeys(o object) []string {
	keys := make([]string, 0, len(o))
	for k := range o {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
