package rest

import (
	"cmp"
	"iter"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxInt is the largest offset that the Block Storage API knows.
const maxInt = math.MaxInt32

// query is what the parameters of a list ask for.
type query struct {
	values  url.Values // all parameters, as sent
	limit   int
	offset  int
	marker  string
	keys    []sortKey
	count   bool
	all     bool // of all projects
	filters map[string]string
}

type sortKey struct {
	name string
	desc bool
}

// params parses the parameters of the request, each of which may stand there once.
func (c *call) params() (url.Values, error) {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, badRequest(textURL)
	}
	for name, all := range values {
		if len(all) > 1 {
			return nil, badRequest("The parameter %s stands %d times in the URL: it may stand there once.", pyRepr(clip(name)), len(all))
		}
	}
	return values, nil
}

// param returns the value of a parameter, and whether it is there.
func param(v url.Values, name string) (string, bool) { return v.Get(name), v.Has(name) }

// listQuery reads the parameters of a list. What is left in filters filters.
func (c *call) listQuery() (query, error) {
	values, err := c.params()
	if err != nil {
		return query{}, err
	}
	q := query{values: values, limit: c.api.cfg.MaxLimit, filters: make(map[string]string, len(values))}
	for name := range values {
		q.filters[name] = values.Get(name)
	}
	if err := q.paginate(c.api.cfg.MaxLimit); err != nil {
		return query{}, err
	}
	if err := q.sort(); err != nil {
		return query{}, err
	}
	if q.count, err = q.flag("with_count"); err != nil {
		return query{}, err
	}
	if c.mv < mvCount {
		q.count = false
	}
	if q.all, err = q.flag("all_tenants"); err != nil {
		return query{}, err
	}
	q.all = q.all && c.who.Admin
	return q, nil
}

// take removes a filter and returns its value.
func (q *query) take(name string) (string, bool) {
	v, ok := q.filters[name]
	delete(q.filters, name)
	return v, ok
}

func (q *query) flag(name string) (bool, error) {
	v, ok := q.take(name)
	if !ok {
		return false, nil
	}
	return boolParam(name, v)
}

// boolParam reads a boolean as Python's strutils do.
func boolParam(name, v string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "1", "t", "true", "on", "y", "yes":
		return true, nil
	case "0", "f", "false", "off", "n", "no":
		return false, nil
	}
	return false, badRequest("Value '%s' for '%s' is not a boolean.", clip(v), name)
}

func (q *query) paginate(most int) error {
	if s, ok := q.take("limit"); ok {
		n, ok := pyInt(s)
		switch {
		case !ok:
			return badRequest("limit param must be an integer")
		case n < 0:
			return badRequest("limit param must be positive")
		}
		q.limit = min(n, most)
	}
	if s, ok := q.take("offset"); ok {
		n, ok := pyInt(s)
		switch {
		case !ok:
			return badRequest("offset must be an integer")
		case n < 0:
			return badRequest("offset must be >= 0")
		case n > maxInt:
			return badRequest("offset must be <= %d", maxInt)
		}
		q.offset = n
	}
	q.marker, _ = q.take("marker")
	return nil
}

// pyInt reads an integer; one that does not fit is the largest or the smallest that does.
func pyInt(s string) (int, bool) {
	s = strings.TrimSpace(s)
	n, err := strconv.Atoi(s)
	if err == nil {
		return n, true
	}
	if rest, negative := strings.CutPrefix(s, "-"); negative && digits(rest) {
		return math.MinInt, true
	}
	return math.MaxInt, digits(strings.TrimPrefix(s, "+"))
}

// sort reads the sort keys and completes them with created_at and id, which make the order total.
func (q *query) sort() error {
	both, hasSort := q.take("sort")
	key, hasKey := q.take("sort_key")
	dir, hasDir := q.take("sort_dir")
	if hasSort && (hasKey || hasDir) {
		return badRequest("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
	}
	if !hasKey {
		key = "created_at"
	}
	if !hasDir {
		dir = "desc"
	}
	if !hasSort {
		both = key + ":" + dir
	}
	for item := range strings.SplitSeq(strings.TrimSpace(both), ",") {
		name, dir, _ := strings.Cut(item, ":")
		if dir = strings.TrimSpace(dir); dir == "" {
			dir = "desc"
		}
		if dir != "asc" && dir != "desc" {
			return badRequest("Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.")
		}
		q.keys = append(q.keys, sortKey{strings.TrimSpace(name), dir == "desc"})
	}
	first := q.keys[0].desc
	for _, name := range []string{"created_at", "id"} {
		if !slices.ContainsFunc(q.keys, func(k sortKey) bool { return k.name == name }) {
			q.keys = append(q.keys, sortKey{name, first})
		}
	}
	return nil
}

// inOrder reports whether the wanted order is that of the read side.
func (q *query) inOrder() bool {
	return len(q.keys) == 2 && q.keys[0] == sortKey{"created_at", true} && q.keys[1] == sortKey{"id", true}
}

// comparer returns the wanted order, made of what the names compare.
func comparer[T any](q *query, by map[string]func(a, b T) int) (func(a, b T) int, error) {
	var order []func(a, b T) int
	for _, k := range q.keys {
		f, ok := by[k.name]
		if !ok {
			return nil, badRequest("Invalid input received: Invalid sort key")
		}
		if k.desc {
			order = append(order, func(a, b T) int { return f(b, a) })
		} else {
			order = append(order, f)
		}
	}
	return func(a, b T) int {
		for _, f := range order {
			if n := f(a, b); n != 0 {
				return n
			}
		}
		return 0
	}, nil
}

// page returns the rows that the query asks for, and how many there are without paging if it asks for that. marker is
// the last row of the page before, if there was one.
func page[T any](q *query, rows iter.Seq[T], keep func(T) bool, order func(a, b T) int, marker *T) (found []T, total int) {
	after := func(r T) bool { return marker == nil || order(*marker, r) < 0 }
	if q.inOrder() {
		skip := q.offset
		for r := range rows {
			if len(found) >= q.limit && !q.count {
				break
			}
			if !keep(r) {
				continue
			}
			if total++; len(found) >= q.limit || !after(r) {
				continue
			}
			if skip > 0 {
				skip--
				continue
			}
			found = append(found, r)
		}
		return found, total
	}
	var all []T
	for r := range rows {
		if !keep(r) {
			continue
		}
		if total++; after(r) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, order)
	all = all[min(q.offset, len(all)):]
	return all[:min(q.limit, len(all))], total
}

// appendListEnd closes a list: links to the next page if this one is full, and the count.
func (c *call) appendListEnd(b []byte, q *query, name, path string, rows int, lastID string, total int) []byte {
	b = append(b, ']')
	if rows > 0 && rows >= q.limit {
		next := url.Values{}
		for k, v := range q.values {
			next[k] = v
		}
		next.Set("marker", lastID)
		self, _ := c.links(path)
		b = append(b, `, "`...)
		b = append(b, name...)
		b = append(b, `_links": [{"rel": "next", "href": `...)
		b = appendString(b, strings.TrimSuffix(self, "/")+"?"+next.Encode())
		b = append(b, "}]"...)
	}
	if q.count {
		b = append(b, `, "count": `...)
		b = appendInt(b, int64(total))
	}
	return append(b, '}')
}

// compareText orders as the databases behind Cinder do: without regard to case, then with.
func compareText(a, b string) int {
	if n := cmp.Compare(strings.ToLower(a), strings.ToLower(b)); n != 0 {
		return n
	}
	return cmp.Compare(a, b)
}

// byText makes a comparison of what a row says.
func byText[T any](of func(T) string) func(a, b T) int {
	return func(a, b T) int { return compareText(of(a), of(b)) }
}

// equal is for sort keys under which all rows are the same here, such as bootable.
func equal[T any](T, T) int { return 0 }

// parseTime reads ISO 8601 as clients send it; without a zone it is UTC.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999",
		"2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
