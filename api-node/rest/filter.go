package rest

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is what a list can be filtered by.
type field[T any] struct {
	// text is what a row says; nil together with the others: a field that no row here has, as if it were null.
	text func(T) string
	// number: the value is compared as a number.
	number bool
	// boolean: the value is one.
	boolean bool
	// raw: the value stands for itself and is no literal.
	raw bool
	// dict: the value is a dict, and the row has all its entries.
	dict func(T) map[string]string
	// at: the value is a list of comparisons with a time.
	at func(T) time.Time
	// from is the first microversion that knows it for everybody; before it is left out.
	from microversion
}

// filterSpec says how a resource is filtered.
type filterSpec[T any] struct {
	fields map[string]field[T]
	// open are the filters that are for everybody, not only for admins.
	open []string
	// openBefore are those before microversion 3.31.
	openBefore []string
	// literals: values are read as Python literals, as they are for volumes.
	literals bool
}

// build returns what the filters of the query keep.
func (s *filterSpec[T]) build(c *call, q *query) (func(T) bool, error) {
	if err := s.admitted(c, q); err != nil {
		return nil, err
	}
	var tests []func(T) bool
	for name, value := range q.filters {
		test, err := s.test(c, name, value)
		if err != nil {
			return nil, err
		}
		tests = append(tests, test)
	}
	switch len(tests) {
	case 0:
		return all[T], nil
	case 1:
		return tests[0], nil
	}
	return func(r T) bool {
		for _, t := range tests {
			if !t(r) {
				return false
			}
		}
		return true
	}, nil
}

func all[T any](T) bool { return true }

func none[T any](T) bool { return false }

// admitted takes away or refuses what the caller may not filter by.
func (s *filterSpec[T]) admitted(c *call, q *query) error {
	for name := range q.filters {
		if f, ok := s.fields[name]; ok && c.mv < f.from {
			delete(q.filters, name)
		}
	}
	if c.who.Admin {
		return nil
	}
	if c.mv < mvResourceFilter {
		for name := range q.filters {
			if !slices.Contains(s.openBefore, name) {
				delete(q.filters, name)
			}
		}
		return nil
	}
	var bad []string
	for name := range q.filters {
		plain := name
		if c.mv >= mvLikeFilter {
			plain = strings.TrimSuffix(name, "~")
		}
		if !slices.Contains(s.open, plain) {
			bad = append(bad, clip(name))
		}
	}
	if bad == nil {
		return nil
	}
	slices.Sort(bad)
	return badRequest("Invalid filters %s are found in query options.", strings.Join(bad, ","))
}

// test makes the test of one filter. What no row has keeps none.
func (s *filterSpec[T]) test(c *call, name, value string) (func(T) bool, error) {
	if plain, like := strings.CutSuffix(name, "~"); like {
		f, ok := s.fields[plain]
		if !ok || f.text == nil || c.mv < mvResourceFilter {
			return none[T], nil
		}
		part := strings.ToLower(value)
		return func(r T) bool { return strings.Contains(strings.ToLower(f.text(r)), part) }, nil
	}
	f, ok := s.fields[name]
	switch {
	case !ok:
		return none[T], nil
	case f.at != nil:
		return timeTest(name, value, f.at)
	case f.dict != nil:
		return dictTest(value, f.dict), nil
	case f.boolean:
		return boolTest(c, name, value, f.text)
	}
	return s.textTest(f, value), nil
}

func (s *filterSpec[T]) textTest(f field[T], value string) func(T) bool {
	wanted := []string{value}
	if s.literals && !f.raw {
		if v, err := pyLiteral(value); err == nil {
			wanted = literalTexts(v)
		}
	}
	if f.text == nil {
		return none[T]
	}
	if f.number {
		for i, w := range wanted {
			if n, err := strconv.ParseFloat(w, 64); err == nil {
				wanted[i] = strconv.FormatFloat(n, 'f', -1, 64)
			}
		}
	}
	if len(wanted) == 1 {
		one := wanted[0]
		return func(r T) bool { return f.text(r) == one }
	}
	return func(r T) bool { return slices.Contains(wanted, f.text(r)) }
}

// literalTexts are the texts that a literal stands for: of a sequence, each of its items.
func literalTexts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case json.Number:
		return []string{string(v)}
	case []any:
		texts := []string{}
		for _, item := range v {
			texts = append(texts, pyStr(item))
		}
		return texts
	case nil:
		return []string{""}
	}
	return []string{pyStr(v)}
}

func boolTest[T any](c *call, name, value string, of func(T) string) (func(T) bool, error) {
	v, err := boolParam(name, value)
	if err != nil {
		if c.mv >= mvBootableStrict {
			return nil, badRequest("Invalid input received: '%s = %s'", name, clip(value))
		}
		v = true
	}
	want := strconv.FormatBool(v)
	return func(r T) bool { return of(r) == want }, nil
}

func dictTest[T any](value string, of func(T) map[string]string) func(T) bool {
	v, err := pyLiteral(value)
	want, ok := v.(object)
	if err != nil || !ok {
		return none[T]
	}
	return func(r T) bool {
		have := of(r)
		for k, w := range want {
			if h, ok := have[k]; !ok || h != pyStr(w) {
				return false
			}
		}
		return true
	}
}

// timeTest reads comparisons such as "gt:2026-01-01T00:00:00,lt:2026-02-01".
func timeTest[T any](name, value string, of func(T) time.Time) (func(T) bool, error) {
	type comparison struct {
		op string
		at time.Time
	}
	var tests []comparison
	for item := range strings.SplitSeq(value, ",") {
		op, text, ok := strings.Cut(item, ":")
		if !slices.Contains([]string{"gt", "gte", "eq", "neq", "lt", "lte"}, op) {
			return nil, badRequest("Invalid %s operator", clip(op))
		}
		at, valid := parseTime(text)
		if !ok || !valid {
			return nil, badRequest("Invalid %s value", clip(text))
		}
		tests = append(tests, comparison{op, at})
	}
	if tests == nil {
		return nil, badRequest("Invalid %s value", name)
	}
	return func(r T) bool {
		t := of(r)
		for _, c := range tests {
			if t.IsZero() || !holdsTime(c.op, t.Compare(c.at)) {
				return false
			}
		}
		return true
	}, nil
}

func holdsTime(op string, n int) bool {
	switch op {
	case "gt":
		return n > 0
	case "gte":
		return n >= 0
	case "eq":
		return n == 0
	case "neq":
		return n != 0
	case "lt":
		return n < 0
	}
	return n <= 0
}
