package messages

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/scoria-storage/scoria/messages/block"
)

// Code says what kind of error crossed the wire, so that programs can branch on it.
type Code string

const (
	// CodeInvalid: a field of the request is wrong. HTTP 400.
	CodeInvalid Code = "invalid_request"
	// CodeInvalidVolume: the volume's state or its readers forbid the operation. HTTP 400, as in Cinder.
	CodeInvalidVolume Code = "invalid_volume"
	// CodeInvalidSnapshot: the snapshot's state or its readers forbid the operation. HTTP 400, as in Cinder.
	CodeInvalidSnapshot Code = "invalid_snapshot"
	// CodeInvalidAttachment: the attachment's state forbids the operation. HTTP 400.
	CodeInvalidAttachment Code = "invalid_attachment"
	// CodeConflict: the state forbids it where Cinder answers 409.
	CodeConflict Code = "conflict"
	// CodeNotFound: what the request names does not exist, or not for this project. HTTP 404.
	CodeNotFound Code = "not_found"
	// CodeQuota: the project's quota is used up. HTTP 413.
	CodeQuota Code = "quota_exceeded"
	// CodeTooLarge: the request is larger than allowed. HTTP 413.
	CodeTooLarge Code = "too_large"
	// CodeNoBackend: no backend has room or can do it. HTTP 400 at admission; the reason of a failed operation.
	CodeNoBackend Code = "no_valid_backend"
	// CodeUnsupported: this release cannot do it. HTTP 501.
	CodeUnsupported Code = "not_implemented"
	// CodeUnavailable: it cannot be done now; nothing was changed, or the operation goes on and is named. HTTP 503.
	CodeUnavailable Code = "unavailable"
	// CodeBusy: the node has too much under way; nothing was changed, and the same request may be sent again. HTTP 503.
	CodeBusy Code = "busy"
	// CodeReused: the operation ID or idempotency key was used for another request. HTTP 409.
	CodeReused Code = "operation_id_reused"
	// CodeFailed: the operation ran and ended without doing what was asked.
	CodeFailed Code = "operation_failed"
	// CodeInternal: a bug or a broken record; the log of the node has more. HTTP 500.
	CodeInternal Code = "internal"
)

// Error is an error that crosses the wire.
type Error struct {
	Code Code `msgpack:"code" json:"code"`
	// Message is for people and names what is wrong. For the Block Storage API it is the whole text.
	Message string `msgpack:"message" json:"message"`
	// Field is the field of the request that is wrong, if one is.
	Field string `msgpack:"field,omitempty" json:"field,omitempty"`
	// Holder is the operation that stands in the way, if one does.
	Holder *Holder `msgpack:"holder,omitempty" json:"holder,omitempty"`
}

// Holder names the operation that has a lock.
type Holder struct {
	Operation block.OperationID `msgpack:"operation" json:"operation"`
	Kind      block.Kind        `msgpack:"kind" json:"kind"`
	Mode      string            `msgpack:"mode" json:"mode"`
	Step      string            `msgpack:"step,omitempty" json:"step,omitempty"`
	Since     time.Time         `msgpack:"since" json:"since"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Is matches an Error with the same code and no message, so that errors.Is(err, &Error{Code: CodeNotFound}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Message == "" && t.Code == e.Code
}

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// fieldError makes the Error of a wrong field.
func fieldError(field, format string, args ...any) error {
	return &Error{Code: CodeInvalid, Field: field, Message: fmt.Sprintf("Invalid input for field/attribute %s: ", field) + fmt.Sprintf(format, args...)}
}

// AsError returns err as an Error; one of another type becomes CodeInternal.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}

// clip shortens a text of somebody else's, for messages.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	i := most
	for i > 0 && !utf8.RuneStart(s[i]) { // do not cut a character
		i--
	}
	return s[:i] + "…"
}
