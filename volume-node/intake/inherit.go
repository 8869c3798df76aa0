package intake

import (
	"context"
	"fmt"
	"slices"
)

// heir is what is known of workers of this node that have ended, between two looks.
type heir struct {
	ended []string
	// given are the dispatch numbers under which operations were dispatched again since then: once is enough.
	given map[string]uint64
}

// inherit dispatches again what workers of this node left that have ended, so that nobody waits for their leases: the
// operations that they had taken over, and those that were delivered and that nobody has taken over. Among the latter
// may be what a living worker is about to take over: it finds the higher number, and drops its delivery.
//
// A worker is forgotten when no operation is its any more. Until then its end is seen by whoever starts next, too.
func (s *sweeper) inherit(ctx context.Context) error {
	if s.i.deps.Workers == nil {
		return nil
	}
	ended, err := s.i.deps.Workers.Ended()
	if err != nil || len(ended) == 0 {
		return err
	}
	if slices.ContainsFunc(ended, func(w string) bool { return !slices.Contains(s.heir.ended, w) }) {
		s.heir = heir{ended: ended, given: make(map[string]uint64)} // what was given may be with the one that has ended now
	}
	if err := s.collect(ctx); err != nil {
		return err
	}
	delivered, err := s.delivered(ctx)
	if err != nil {
		return err
	}
	left := make(map[string]bool) // workers that still have operations
	for id, was := range s.live {
		mine := slices.Contains(ended, was.worker)
		left[was.worker] = left[was.worker] || mine
		if !mine && (was.worker != "" || was.revision > delivered) || s.heir.given[id] == was.dispatch || s.i.table.has(id) {
			continue
		}
		if err := s.inheritOne(ctx, id, was); err != nil {
			return err
		}
	}
	for _, worker := range ended {
		if left[worker] {
			continue
		}
		if err := s.i.deps.Workers.Forget(worker); err != nil {
			return err
		}
	}
	return nil
}

// delivered returns the stream sequence up to which dispatches were delivered, on the backend that is furthest.
func (s *sweeper) delivered(ctx context.Context) (uint64, error) {
	var last uint64
	for _, q := range s.queues {
		info, err := (*q.consumer.Load()).Info(ctx)
		if err != nil {
			return 0, err
		}
		last = max(last, info.Delivered.Stream)
	}
	return last, nil
}

// inheritOne dispatches an operation again if it is as it was seen.
func (s *sweeper) inheritOne(ctx context.Context, id string, was driven) error {
	rec, q, err := s.look(ctx, id)
	if err != nil || rec.Worker != was.worker || rec.Dispatch != was.dispatch {
		return err
	}
	if q == nil { // this process cannot help
		s.heir.given[id] = was.dispatch
		return nil
	}
	why := fmt.Sprintf("worker %s has ended", rec.Worker)
	if rec.Worker == "" {
		why = "the worker that it was delivered to may have ended"
	}
	n, err := s.again(ctx, q, rec, why)
	if err == nil && n > 0 {
		s.heir.given[id] = n
	}
	return err
}
