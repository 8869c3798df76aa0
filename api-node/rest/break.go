package rest

import (
	"errors"
	"net/http"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// breakWait bounds a break, which may have to wait until a writer was ended.
const breakWait = 3 * time.Minute

// breakLock takes the locks away from the operation that holds a key, or one of the keys of a volume, a snapshot or an attachment.
func (c *call) breakLock() error {
	if !c.who.Admin {
		return newFault(http.StatusForbidden, "Only an admin may break a lock.")
	}
	keys, err := c.lockKeys()
	if err != nil {
		return err
	}
	b, err := c.breakBody()
	if err != nil {
		return err
	}
	b.Keys = keys
	ctx, cancel := c.longWait(breakWait)
	defer cancel()
	id, err := c.api.cfg.Submitter.Break(ctx, c.caller(), b)
	c.setOperation(id)
	if err != nil {
		return err
	}
	op, err := c.reader().WaitEnded(ctx, id)
	if errors.Is(err, view.ErrNotFound) { // the lock named an operation that has no record
		return c.replyJSON(http.StatusOK, map[string]any{"operation": map[string]any{"id": id}})
	}
	if err != nil {
		return err
	}
	return c.replyOperation(http.StatusOK, op)
}

func (c *call) breakBody() (admit.Break, error) {
	var b admit.Break
	body, err := c.ownBody()
	if err != nil {
		return b, err
	}
	for name, v := range body {
		ok := false
		switch name {
		case "reason":
			b.Reason, ok = v.(string)
		case "operation":
			var id string
			id, ok = v.(string)
			b.Operation = block.OperationID(id)
		case "force":
			b.Force, ok = v.(bool)
		}
		if !ok {
			return b, badRequest(`The body is {"reason": "text", "operation": "ID", "force": true}; the last two may be left out.`)
		}
	}
	if b.Operation != "" && !block.IsUUID(string(b.Operation)) {
		return b, messages.OperationNotFound(b.Operation)
	}
	return b, nil
}
