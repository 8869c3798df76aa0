package rest

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// Headers of Scoria's own.
const (
	headerIdempotency = "Idempotency-Key"
	headerOnConflict  = "X-Scoria-On-Conflict"
)

// submit asks admission for an operation and waits until the read side shows it.
func (c *call) submit(req messages.Request) (admit.Accepted, error) {
	op, err := c.operationID()
	if err != nil {
		return admit.Accepted{}, err
	}
	conflict := c.r.Header.Get(headerOnConflict)
	if _, err := messages.ParseOnConflict(conflict); err != nil {
		return admit.Accepted{}, badRequest("%s: %s", headerOnConflict, err.Error())
	}
	acc, err := c.api.cfg.Submitter.Submit(c.r.Context(), admit.Submission{Caller: c.caller(), Operation: op, OnConflict: conflict, Request: req})
	if err != nil {
		return acc, err
	}
	c.setOperation(acc.Operation)
	return acc, c.wait(acc.Revision, acc.Operation)
}

// submitEmpty is submit for calls that are answered 202 without a body.
func (c *call) submitEmpty(req messages.Request) error {
	if _, err := c.submit(req); err != nil {
		return err
	}
	return c.empty(http.StatusAccepted)
}

// refuseQueue is for writes that are no operation: they cannot wait for one.
func (c *call) refuseQueue() error {
	policy, err := messages.ParseOnConflict(c.r.Header.Get(headerOnConflict))
	if err != nil {
		return badRequest("%s: %s", headerOnConflict, err.Error())
	}
	if policy.Queue {
		return notImplemented("%s: queue is not implemented for this request: it is done at once or refused.", headerOnConflict)
	}
	return nil
}

// maxKey is the length of the longest idempotency key, in characters.
const maxKey = 255

// operationID is the ID that the idempotency key stands for; "" without one.
func (c *call) operationID() (block.OperationID, error) {
	values, ok := c.r.Header[headerIdempotency]
	if !ok {
		return "", nil
	}
	key := strings.TrimSpace(values[0])
	if id := canonicalUUID(key); id != "" && len(values) == 1 {
		return block.OperationID(id), nil
	}
	if len(values) > 1 || key == "" || !utf8.ValidString(key) || utf8.RuneCountInString(key) > maxKey {
		return "", badRequest("%s: want one value of 1 to %d characters", headerIdempotency, maxKey)
	}
	return block.OperationID(uuid.NewSHA1(keySpace, []byte(c.who.Project+"\x00"+key)).String()), nil
}

// keySpace is the name space of the IDs that idempotency keys stand for.
var keySpace = uuid.MustParse("0b2c5f0e-6a5d-4c1e-9d2f-5f3f4b7a9e61")
