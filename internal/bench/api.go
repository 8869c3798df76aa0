package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Length says how long each row is measured.
type Length struct{ Warm, Row, Floor time.Duration }

// DefaultLength is long enough for figures that repeat within some percent on a quiet machine.
var DefaultLength = Length{Warm: time.Second, Row: 4 * time.Second, Floor: 2 * time.Second}

const (
	oneGiB = `"size":1`
	// createCommits is how many commits a create takes: submit, take over and reserve, end.
	createCommits = 3
	listed        = 1000
)

var clients = []int{1, 16, 64}

// API measures the control plane: those of its [Cases] that are named, or all.
func API(ctx context.Context, t Target, l Length, cases []string, progress func(string)) (rows []Row, err error) {
	call, err := newCaller(t.Endpoint, 64)
	if err != nil {
		return nil, err
	}
	defer call.close()
	under := newFloors(t.Store, l.Floor)
	defer func() { err = errors.Join(err, under.close(ctx)) }()
	b := &apiBench{target: t, length: l, call: call, floors: under, progress: progress}
	if t.Remove {
		defer func() { err = errors.Join(err, call.remove(ctx, progress)) }()
	}
	for _, part := range apiParts {
		if len(cases) > 0 && !slices.ContainsFunc(cases, func(c string) bool { return slices.Contains(part.cases, c) }) {
			continue
		}
		if err := part.do(b, ctx); err != nil {
			return b.rows, because(ctx, err)
		}
	}
	return b.rows, nil
}

// apiParts measure some cases each.
var apiParts = []struct {
	cases []string
	do    func(*apiBench, context.Context) error
}{
	{[]string{"batch-4", "batch-64", "update-1"}, (*apiBench).bare},
	{[]string{"list-detail-1000", "get-by-id"}, (*apiBench).lists},
	{[]string{"create-accept"}, (*apiBench).accepts},
	{[]string{"create-ended"}, (*apiBench).ends},
}

type apiBench struct {
	target   Target
	length   Length
	call     *caller
	floors   *floors
	progress func(string)
	rows     []Row
}

func (b *apiBench) bare(ctx context.Context) error {
	if b.floors == nil {
		return nil
	}
	b.progress("bare batches")
	for _, n := range []int{4, 64} {
		r, err := b.floors.batch(ctx, n)
		if err != nil {
			return err
		}
		r.Floor = r.Ops
		b.rows = append(b.rows, r)
	}
	r, err := b.floors.update(ctx)
	r.Floor = r.Ops
	b.rows = append(b.rows, r)
	return err
}

// lists measures reads with 1,000 volumes there.
func (b *apiBench) lists(ctx context.Context) error {
	b.progress("list and get")
	ids, err := b.fill(ctx)
	if err != nil {
		return err
	}
	list := func(ctx context.Context, _ int) error {
		_, _, err := b.call.do(ctx, http.MethodGet, "/v3/"+project+"/volumes/detail?limit=1000", nil)
		return err
	}
	if err := b.reads(ctx, "list-detail-1000", list); err != nil {
		return err
	}
	next := 0
	get := func(ctx context.Context, _ int) error {
		next++
		_, _, err := b.call.do(ctx, http.MethodGet, "/v3/"+project+"/volumes/"+ids[next%len(ids)], nil)
		return err
	}
	return b.reads(ctx, "get-by-id", get)
}

func (b *apiBench) reads(ctx context.Context, name string, do func(context.Context, int) error) error {
	took, err := load(ctx, name, 1, b.length.Warm, b.length.Row, whole(do))
	if err == nil {
		b.rows = append(b.rows, row(name, 1, b.length.Row, slices.Concat(took...)))
	}
	return err
}

func (b *apiBench) fill(ctx context.Context) ([]string, error) {
	ids := make([]string, listed)
	errs := make(chan error, 32)
	for w := range cap(errs) {
		go func() {
			for i := w; i < listed; i += cap(errs) {
				id, _, err := b.call.create(ctx, oneGiB)
				if err != nil {
					errs <- err
					return
				}
				ids[i] = id
			}
			errs <- nil
		}()
	}
	var first error
	for range cap(errs) {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		return nil, first
	}
	return ids, b.call.drained(ctx)
}

func (b *apiBench) accepts(ctx context.Context) error {
	return b.creates(ctx, "create-accept", func(ctx context.Context, _ int) error {
		_, _, err := b.call.create(ctx, oneGiB)
		return err
	})
}

func (b *apiBench) ends(ctx context.Context) error {
	return b.creates(ctx, "create-ended", func(ctx context.Context, _ int) error {
		_, operation, err := b.call.create(ctx, oneGiB)
		if err != nil {
			return err
		}
		return b.call.ended(ctx, operation)
	})
}

// creates measures work that creates a volume, at each number of clients. Where the volume node works on earlier ones at the same time,
// its messages count too.
func (b *apiBench) creates(ctx context.Context, name string, do func(context.Context, int) error) error {
	for _, n := range clients {
		b.progress(fmt.Sprintf("%s at %d clients", name, n))
		m := meter{store: b.target.Store, floors: b.floors, length: b.length}
		r, err := m.measure(ctx, work{name: name, workers: n, commits: createCommits, do: whole(do), after: b.call.drained})
		if err != nil {
			return err
		}
		b.rows = append(b.rows, r)
	}
	return nil
}
