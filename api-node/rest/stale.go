package rest

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// headerStale says for how many seconds what an answer shows may be out of date. It is there only if that is so.
const headerStale = "X-Scoria-Stale"

// reach looks whether the stream answers: if it does not, a read says so in its answer, and what would change something is refused.
func (c *call) reach() error {
	stream := c.api.cfg.Stream
	if c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		if stale := stream.Stale(); stale > 0 {
			c.Header()[headerStale] = []string{strconv.FormatInt(int64(stale/time.Second), 10)}
		}
		return nil
	}
	err := stream.Await(c.r.Context())
	if e, ok := errors.AsType[*messages.Error](err); ok {
		return messages.Errorf(e.Code, "%s. Nothing was submitted: repeat the request then.", e.Message)
	}
	return err
}

// lookup finds an operation, in the stream if it is not in memory, unless that stops answering.
func (c *call) lookup(id block.OperationID) (*view.Operation, error) {
	if op, ok := c.reader().Operation(id); ok {
		return op, nil
	}
	ctx, cancel := c.api.cfg.Stream.While(c.r.Context())
	defer cancel()
	op, err := c.reader().Lookup(ctx, id)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return op, err
}
