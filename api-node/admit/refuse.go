package admit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// The texts are those of Cinder, where Cinder has one: clients and their tests compare them.

func invalidInput(format string, args ...any) *messages.Error {
	return messages.Errorf(messages.CodeInvalid, "Invalid input received: "+format, args...)
}

func invalidVolume(format string, args ...any) *messages.Error {
	return messages.Errorf(messages.CodeInvalidVolume, "Invalid volume: "+format, args...)
}

func invalidSnapshot(format string, args ...any) *messages.Error {
	return messages.Errorf(messages.CodeInvalidSnapshot, "Invalid snapshot: "+format, args...)
}

// naming adds the operation that stands in the way.
func naming(e *messages.Error, h held) error {
	e.Holder = h.holder
	return e
}

// volumeRead refuses what changes a volume while operations read it.
func volumeRead(id block.VolumeID, h held, now time.Time) error {
	return naming(invalidVolume("Volume %s is being read by %s.", id, h.words(now)), h)
}

// snapshotRead refuses what changes a snapshot while operations read it.
func snapshotRead(id block.SnapshotID, h held, now time.Time) error {
	return naming(invalidSnapshot("Snapshot %s is being read by %s.", id, h.words(now)), h)
}

// words name the operation that people are told of: kind, ID, step, age, and how many others there are.
func (h held) words(now time.Time) string {
	s := describe(h.holder, now)
	if n := len(h.lock.Holders) - 1; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

func describe(h *messages.Holder, now time.Time) string {
	step := ""
	if h.Step != "" {
		step = ", step " + h.Step
	}
	return fmt.Sprintf("%s, operation %s%s, for %s", h.Kind, h.Operation, step, max(now.Sub(h.Since), 0).Truncate(time.Second))
}

// busy refuses what Cinder would make wait or run into the other one: it can be repeated when that has ended.
func busy(what string, h held, now time.Time) error {
	return naming(messages.Errorf(messages.CodeUnavailable, "%s is held by %s; nothing was changed, try again when that has ended",
		what, h.words(now)), h)
}

// conflict puts the locks' refusal in words. What decisions look at themselves they have refused before with better ones.
func (d *draft) conflict(err error) error {
	if errors.Is(err, kvlock.ErrDeadline) {
		return messages.Errorf(messages.CodeUnavailable, "the time for which the request may wait was over before it stood in line; nothing was changed")
	}
	if errors.Is(err, kvlock.ErrTooLarge) && d.p.wait.Queue {
		return messages.Errorf(messages.CodeUnavailable, "as many operations as possible wait at this moment; nothing was changed, try again later: %v", err)
	}
	if errors.Is(err, kvlock.ErrTooLarge) {
		return messages.Errorf(messages.CodeUnavailable, "as many operations as possible read the resource at this moment; nothing was changed, try again later: %v", err)
	}
	conflict, ok := errors.AsType[*kvlock.ConflictError](err)
	if !ok {
		return err
	}
	c := conflict.Conflicts[0]
	owner, mode, how := "", c.Mode, "held"
	switch {
	case len(c.Holders) > 0:
		owner = c.Holders[0].Owner
	case c.Waiter != nil:
		owner, mode, how = c.Waiter.Owner, c.Waiter.Mode, "waited for"
	}
	h, _, err := holderOf(d.s, owner, mode)
	if err != nil {
		return err
	}
	e := messages.Errorf(messages.CodeConflict, "%s is %s by %s.", resource(c.Claim.Key), how, describe(h, d.p.at))
	switch class, _ := records.Classify(c.Claim.Key); class {
	case records.ClassVolume:
		e.Code, e.Message = messages.CodeInvalidVolume, "Invalid volume: "+e.Message
	case records.ClassSnapshot:
		e.Code, e.Message = messages.CodeInvalidSnapshot, "Invalid snapshot: "+e.Message
	case records.ClassOther, records.ClassAttachment, records.ClassQuota, records.ClassCredit, records.ClassPool, records.ClassBackend, records.ClassNode:
		e.Code = messages.CodeUnavailable
	}
	e.Holder = h
	return e
}

// resource names what a key stands for: "Volume 1234…".
func resource(key string) string {
	prefix, id, _ := strings.Cut(key, ".")
	switch prefix {
	case "volume":
		return "Volume " + id
	case "snapshot":
		return "Snapshot " + id
	case "attach":
		return "The attachment of volume " + id
	}
	return key
}

// errLate is why there is no decision, where nothing better is known.
var errLate = errors.New("the store did not answer in time")

// silent says who does not answer, if somebody does not.
func (a *Admitter) silent() error {
	if a.stream == nil {
		return nil
	}
	return a.stream.Silent()
}

// refusal makes every error one that may cross the wire. id is empty for a change that is no operation. One of
// CodeInternal is for the log of whoever answers.
func (a *Admitter) refusal(err error, id block.OperationID) error {
	if e, ok := errors.AsType[*messages.Error](err); ok {
		return e
	}
	short, silent := a.short(), a.silent()
	why := cmp.Or(short, silent, errLate).Error()
	switch {
	case errors.Is(err, kvtx.ErrInDoubt) && id == "":
		return messages.Errorf(messages.CodeUnavailable, "%s. It is not known whether the change was made: look at it before you repeat it.", why)
	case errors.Is(err, kvtx.ErrInDoubt):
		return messages.Errorf(messages.CodeUnavailable, "%s. It is not known whether operation %s was accepted: send the request again with this operation ID "+
			"(over HTTP: with the header Idempotency-Key: %s), then it is not done twice; or look at the operation.", why, id, id)
	case errors.Is(err, kvtx.ErrBusy):
		return messages.Errorf(messages.CodeBusy, "this node has as many changes under way as it takes at once; nothing was changed, send the request again")
	case short != nil && !errors.Is(err, kvtx.ErrTooLarge):
		return short
	case errors.Is(err, kvtx.ErrNoRoom):
		return messages.Errorf(messages.CodeUnavailable, "the disk of the NATS server is full, or its limits are reached: nothing was changed; make room there: %v", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, kvtx.ErrClosed):
		return messages.Errorf(messages.CodeUnavailable, "%s. Nothing was changed: send the request again.", cmp.Or(silent, errLate))
	case errors.Is(err, kvtx.ErrTooLarge), errors.Is(err, kvlock.ErrTooLarge):
		return messages.Errorf(messages.CodeTooLarge, "the request is too large to be stored: %v", err)
	}
	if id == "" {
		return messages.Errorf(messages.CodeInternal, "the request cannot be decided: %v", err)
	}
	return messages.Errorf(messages.CodeInternal, "operation %s cannot be decided: %v", id, err)
}
