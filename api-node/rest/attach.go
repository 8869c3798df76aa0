package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// Attachments are the calls that wait for the end of their operation. They can be repeated: a repeated one waits for the
// operation that the first one began.

// createAttachment reserves a volume for a host or, with a connector, exports it at once.
func (c *call) createAttachment() error {
	s := createAttachmentSchema
	if c.mv >= mvAttachMode {
		s = attachmentModeSchema
	}
	body, err := c.validBody(s)
	if err != nil {
		return err
	}
	a := body["attachment"].(object)
	volume := block.VolumeID(canonicalUUID(text(a, "volume_uuid")))
	connector, readOnly, err := connectorOf(a["connector"], text(a, "mode"))
	if err != nil {
		return err
	}
	instance := canonicalUUID(text(a, "instance_uuid"))
	if connector == nil {
		return c.reserve(volume, instance, readOnly)
	}
	acc, err := c.submit(&messages.AttachVolume{Volume: volume, Instance: instance, ReadOnly: readOnly, Connector: connector})
	if err != nil {
		return err
	}
	return c.awaitAttached(acc.Operation, block.AttachmentID(acc.Resource))
}

func (c *call) reserve(volume block.VolumeID, instance string, readOnly bool) error {
	if err := c.refuseQueue(); err != nil {
		return err
	}
	op, err := c.operationID()
	if err != nil {
		return err
	}
	// The attachment's ID follows from the key, so that a repeated reservation is the same one.
	a, rev, err := c.api.cfg.Submitter.Reserve(c.r.Context(), c.caller(), volume, block.AttachmentID(op), instance, readOnly)
	if err != nil {
		return err
	}
	if err := c.wait(rev, ""); err != nil {
		return err
	}
	r, err := c.attachmentOf(string(a.ID))
	if err != nil {
		return err
	}
	return c.replyAttachment(r)
}

// connectorOf returns what the host says of itself, as JSON with sorted keys, and whether it may only read; nil where it
// says nothing.
func connectorOf(v any, mode string) ([]byte, bool, error) {
	o, _ := v.(object)
	if mode == "" {
		switch m, _ := o["mode"].(string); m {
		case "rw", "ro":
			mode = m
		}
	}
	if len(o) == 0 {
		return nil, mode == "ro", nil
	}
	data, err := json.Marshal(o)
	if err != nil {
		return nil, false, badRequest(textMalformed)
	}
	return data, mode == "ro", nil
}

// updateAttachment exports a reserved volume for the host that the connector tells of.
func (c *call) updateAttachment() error {
	body, err := c.validBody(updateAttachmentSchema)
	if err != nil {
		return err
	}
	r, err := c.attachmentOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	connector, readOnly, err := connectorOf(body["attachment"].(object)["connector"], "")
	if err != nil {
		return err
	}
	if doneBefore(r, connector) {
		return c.replyAttachment(r)
	}
	op, err := c.submitOrJoin(&messages.AttachVolume{Volume: r.Volume, Attachment: r.ID, Instance: r.Instance,
		ReadOnly: readOnly || r.ReadOnly, Connector: connector})
	if errors.Is(err, &messages.Error{Code: messages.CodeInvalidAttachment}) {
		// Perhaps it was done between the look and the submission.
		if r, ok := c.soonDone(r.ID, connector); ok {
			return c.replyAttachment(r)
		}
	}
	if err != nil {
		return err
	}
	return c.awaitAttached(op, r.ID)
}

// doneBefore reports whether the attachment is exported for this very host.
func doneBefore(r *view.Attachment, connector []byte) bool {
	return r.Connection != nil && r.Holder == nil && sameJSON(r.Connector, connector)
}

// soonDone looks whether the read side, which may lag, shows doneBefore in a moment.
func (c *call) soonDone(id block.AttachmentID, connector []byte) (*view.Attachment, bool) {
	var r *view.Attachment
	err := c.settle("", func() bool {
		var there bool
		r, there = c.reader().Attachment(id)
		return !there || r.Holder == nil && r.Connection != nil
	})
	return r, err == nil && r != nil && doneBefore(r, connector)
}

func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := parseObject(a)
	y, errY := parseObject(b)
	if errX != nil || errY != nil {
		return false
	}
	canonical, err := json.Marshal(x)
	other, errOther := json.Marshal(y)
	return err == nil && errOther == nil && bytes.Equal(canonical, other)
}

// submitOrJoin asks for the operation, or returns the one that does the very same already.
func (c *call) submitOrJoin(req messages.Request) (block.OperationID, error) {
	acc, err := c.submit(req)
	if err == nil {
		return acc.Operation, nil
	}
	e, ok := errors.AsType[*messages.Error](err)
	if !ok || e.Holder == nil || e.Holder.Kind != req.Kind() {
		return "", err
	}
	op, errLookup := c.lookup(e.Holder.Operation)
	if errLookup != nil || op.Resource != req.Resource() {
		return "", err
	}
	c.setOperation(op.ID)
	return op.ID, nil
}

// awaitAttached answers with the attachment when the operation has ended.
func (c *call) awaitAttached(op block.OperationID, id block.AttachmentID) error {
	if err := c.await(op); err != nil {
		return err
	}
	var shown *view.Attachment
	err := c.settle(op, func() bool {
		r, ok := c.reader().Attachment(id)
		if !ok || r.Connection == nil {
			return false
		}
		shown = r
		return true
	})
	if err != nil {
		return err
	}
	return c.replyAttachment(shown)
}

// deleteAttachment cuts the host off and answers with the attachments that the volume still has.
func (c *call) deleteAttachment() error {
	id := c.r.PathValue("id")
	if !block.IsUUID(id) {
		return messages.AttachmentNotFound(block.AttachmentID(id))
	}
	op, err := c.submitOrJoin(&messages.DetachVolume{Attachment: block.AttachmentID(id)})
	if err != nil {
		return err
	}
	if err := c.await(op); err != nil {
		return err
	}
	err = c.settle(op, func() bool { _, there := c.reader().Attachment(block.AttachmentID(id)); return !there })
	if err != nil {
		return err
	}
	volume, err := c.volumeOfDetach(op)
	if err != nil {
		return err
	}
	var left []*view.Attachment
	if v, ok := c.reader().Volume(volume); ok {
		for _, ref := range v.Attachments {
			if a, ok := c.reader().Attachment(ref.ID); ok {
				left = append(left, a)
			}
		}
	}
	return c.replyAttachments(left, false)
}

// volumeOfDetach is the volume whose attachments the operation changed.
func (c *call) volumeOfDetach(id block.OperationID) (block.VolumeID, error) {
	op, err := c.lookup(id)
	if err != nil {
		return "", err
	}
	for _, claim := range op.Claims {
		if v, ok := strings.CutPrefix(claim.Key, records.AttachKey("")); ok {
			return block.VolumeID(v), nil
		}
	}
	return "", fmt.Errorf("operation %s claims no volume's attachments", id)
}

// await waits until the operation has ended, and says what went wrong if it did not do what was asked.
func (c *call) await(id block.OperationID) error {
	ctx, cancel := c.longWait(c.api.cfg.AttachWait)
	defer cancel()
	op, err := c.reader().WaitEnded(ctx, id)
	if err != nil {
		switch {
		case c.api.isClosing() || errors.Is(err, view.ErrStopped):
			return unfinished(id, "Operation %s has not ended, and this node is ending. The operation goes on; repeat the request to another node, or to this one "+
				"when it runs again, to wait for its end.", id)
		case ctx.Err() != nil:
			return unfinished(id, "Operation %s has not ended within %s. It goes on; repeat the request to wait for its end.", id, c.api.cfg.AttachWait)
		}
		return err
	}
	switch {
	case op.Phase == kvlock.Done.String():
		return nil
	case op.Stuck():
		f := newFault(http.StatusServiceUnavailable, "Operation %s (%s) is stuck at step %s and waits for an operator: %s", op.ID, op.Kind, op.Step, op.Error)
		f.operation = op.ID
		return f
	}
	return unfinished(op.ID, "Operation %s (%s) ended without doing what was asked: %s", op.ID, op.Kind, op.Error)
}

// unfinished refuses a request for now, whose operation was accepted.
func unfinished(id block.OperationID, format string, args ...any) error {
	f := newFault(http.StatusServiceUnavailable, format, args...)
	f.operation, f.retryAfter = id, "1"
	return f
}

// settleWait and settlePause bound and pace the wait for the rest of a commit whose first record is visible already.
const (
	settleWait  = 5 * time.Second
	settlePause = 2 * time.Millisecond
)

// settle waits until the read side shows what the operation's last commit wrote besides the operation itself.
func (c *call) settle(op block.OperationID, shown func() bool) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), settleWait)
	defer cancel()
	tick := time.NewTicker(settlePause)
	defer tick.Stop()
	for !shown() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return unfinished(op, "Operation %s has ended, and this node does not show yet what it did. Repeat the request.", op)
		}
	}
	return nil
}

// completeAttachment says that the host uses the volume.
func (c *call) completeAttachment() error { return c.act(attachmentActions) }

var attachmentActions = map[string]action{"os-complete": {min: mvComplete, do: (*call).complete}}

func (c *call) complete(body object) error {
	if err := completeSchema.check(body); err != nil {
		return err
	}
	if err := c.refuseQueue(); err != nil {
		return err
	}
	r, err := c.attachmentOf(c.r.PathValue("id"))
	if err != nil {
		return err
	}
	rev, err := c.api.cfg.Submitter.CompleteAttachment(c.r.Context(), c.caller(), r.ID)
	if err != nil {
		return err
	}
	if err := c.wait(rev, ""); err != nil {
		return err
	}
	return c.empty(http.StatusNoContent)
}

var _ Submitter = (*admit.Admitter)(nil)

var _ Reader = (*view.View)(nil)
