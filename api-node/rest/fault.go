package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// fault is an answer that says what is wrong.
type fault struct {
	status  int
	message string
	// retryAfter is the value of Retry-After, in seconds, or "".
	retryAfter string
	// operation is the operation that goes on, if one does.
	operation block.OperationID
	// version is what the version header says instead of the negotiated one.
	version string
}

func (f *fault) Error() string { return f.message }

func newFault(status int, format string, args ...any) *fault {
	return &fault{status: status, message: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *fault {
	return newFault(http.StatusBadRequest, format, args...)
}

func notFound(format string, args ...any) *fault {
	return newFault(http.StatusNotFound, format, args...)
}

func notImplemented(format string, args ...any) *fault {
	return newFault(http.StatusNotImplemented, format, args...)
}

// Texts of the Block Storage API for what clients match on.
const (
	textNotFound  = "The resource could not be found."
	textMalformed = "Malformed request body"
	textNoBody    = "The server could not comply with the request since it is either malformed or otherwise incorrect."
	textURL       = "Malformed request url"
)

// faultNames are the keys of the bodies; every other status has "computeFault".
var faultNames = map[int]string{
	http.StatusBadRequest:            "badRequest",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "itemNotFound",
	http.StatusMethodNotAllowed:      "badMethod",
	http.StatusConflict:              "conflictingRequest",
	http.StatusRequestEntityTooLarge: "overLimit",
	http.StatusUnsupportedMediaType:  "badMediaType",
	http.StatusNotImplemented:        "notImplemented",
	http.StatusServiceUnavailable:    "serviceUnavailable",
}

func faultName(status int) string {
	if name, ok := faultNames[status]; ok {
		return name
	}
	return "computeFault"
}

// statusOf is the status of each code. CodeFailed is an operation that a call waited for and that ended undone: trying
// again may help.
var statusOf = map[messages.Code]int{
	messages.CodeInvalid:           http.StatusBadRequest,
	messages.CodeInvalidVolume:     http.StatusBadRequest,
	messages.CodeInvalidSnapshot:   http.StatusBadRequest,
	messages.CodeInvalidAttachment: http.StatusBadRequest,
	messages.CodeNoBackend:         http.StatusBadRequest,
	messages.CodeConflict:          http.StatusConflict,
	messages.CodeReused:            http.StatusConflict,
	messages.CodeNotFound:          http.StatusNotFound,
	messages.CodeQuota:             http.StatusRequestEntityTooLarge,
	messages.CodeTooLarge:          http.StatusRequestEntityTooLarge,
	messages.CodeUnsupported:       http.StatusNotImplemented,
	messages.CodeUnavailable:       http.StatusServiceUnavailable,
	messages.CodeBusy:              http.StatusServiceUnavailable,
	messages.CodeFailed:            http.StatusServiceUnavailable,
	messages.CodeInternal:          http.StatusInternalServerError,
}

// asFault turns any error into an answer. known is false where the error is none that a handler may return: it is for
// the log, and its text is not for the caller.
func asFault(err error) (f *fault, known bool) {
	if f, ok := errors.AsType[*fault](err); ok {
		return f, true
	}
	if e, ok := errors.AsType[*messages.Error](err); ok && e.Code != messages.CodeInternal {
		status, ok := statusOf[e.Code]
		if !ok { // of a newer release
			status = http.StatusServiceUnavailable
		}
		f := &fault{status: status, message: e.Message}
		if e.Code == messages.CodeQuota {
			f.retryAfter = "0"
		}
		if status == http.StatusServiceUnavailable {
			f.retryAfter = "1"
		}
		if e.Holder != nil {
			f.operation = e.Holder.Operation
		}
		return f, true
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return newFault(http.StatusServiceUnavailable, "The request took too long or was given up: %v. What it asked for may go on; look before you repeat it.", err), true
	}
	return newFault(http.StatusInternalServerError, "The server has either erred or is incapable of performing the requested operation."), false
}

// appendFault is the body of a fault.
func appendFault(b []byte, f *fault) []byte {
	b = append(b, `{"`...)
	b = append(b, faultName(f.status)...)
	b = append(b, `": {"code": `...)
	b = appendInt(b, int64(f.status))
	b = append(b, `, "message": `...)
	b = appendString(b, f.message)
	if f.status == http.StatusRequestEntityTooLarge && f.retryAfter != "" {
		b = append(b, `, "retryAfter": `...)
		b = appendString(b, f.retryAfter)
	}
	return append(b, "}}"...)
}
