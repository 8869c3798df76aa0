package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// removeLimit bounds the removal of what a run made, drainLimit the wait for what is still being made.
	removeLimit = 2 * time.Minute
	drainLimit  = 20 * time.Second
	// removers is how many are removed at the same time.
	removers = 16
)

// remove deletes what bears the name of this run, also when the run was interrupted. The error says what is left.
func (c *caller) remove(ctx context.Context, progress func(string)) error {
	progress("remove what was made")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
	defer cancel()
	drain, stop := context.WithTimeout(ctx, drainLimit)
	defer stop()
	_ = c.drained(drain) // another's operation may be stuck: what cannot be removed is said below
	return errors.Join(c.removeAll(ctx, "snapshots"), c.removeAll(ctx, "volumes"))
}

// removeAll deletes all of a collection, page after page, until none is left or none goes.
func (c *caller) removeAll(ctx context.Context, collection string) error {
	for {
		ids, err := c.named(ctx, collection)
		if err != nil {
			return fmt.Errorf("%s named %s of project %s may be left: %w", collection, c.name, project, err)
		}
		if len(ids) == 0 {
			return nil
		}
		gone, err := c.removeEach(ctx, collection, ids)
		if gone == 0 {
			return fmt.Errorf("%d or more %s named %s of project %s could not be removed: %w", len(ids), collection, c.name, project, err)
		}
	}
}

// named are the IDs of a page of those that bear the name of this run.
func (c *caller) named(ctx context.Context, collection string) ([]string, error) {
	data, _, err := c.do(ctx, http.MethodGet, "/v3/"+project+"/"+collection+"?name="+c.name, nil)
	if err != nil {
		return nil, err
	}
	var page map[string]json.RawMessage
	if err := json.Unmarshal(data, &page); err != nil {
		return nil, err
	}
	var rows []struct{ ID string }
	if err := json.Unmarshal(page[collection], &rows); err != nil {
		return nil, err
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids, nil
}

// removeEach returns how many have gone, and the last error.
func (c *caller) removeEach(ctx context.Context, collection string, ids []string) (gone int, last error) {
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	next := make(chan string)
	for range min(removers, len(ids)) {
		wg.Go(func() {
			for id := range next {
				err := c.removeOne(ctx, "/v3/"+project+"/"+collection+"/"+id)
				mu.Lock()
				if err == nil {
					gone++
				} else {
					last = err
				}
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	wg.Wait()
	return gone, last
}

func (c *caller) removeOne(ctx context.Context, path string) error {
	_, header, err := c.do(ctx, http.MethodDelete, path, nil)
	if answer, ok := errors.AsType[*answerError](err); ok && answer.code == http.StatusNotFound {
		return nil // it went before
	}
	if err != nil {
		return err
	}
	return c.ended(ctx, header.Get(headerOperation))
}
