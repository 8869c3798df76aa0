package messages

import (
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/messages/block"
)

// Subjects that programs use. <project> is a token; <kind> is a kind such as volume.create, that is two tokens.
const (
	submitPrefix = "scoria.v1.submit."
	getPrefix    = "scoria.v1.get."
	eventPrefix  = "scoria.v1.event."
	nodePrefix   = "scoria.v1.node."
)

const (
	// SubmitAll is what API nodes subscribe to, in the queue group QueueGroup.
	SubmitAll = submitPrefix + ">"
	// GetAll is what API nodes subscribe to for questions, in the queue group QueueGroup.
	GetAll = getPrefix + "*"
	// RoomSubject is where a process that has the NATS server in it answers whether there is room on its disk: any question, and Room.
	RoomSubject = "scoria.v1.room"
	// EventAll is where all Updates are.
	EventAll = eventPrefix + ">"
	// QueueGroup shares the messages among API nodes.
	QueueGroup = "scoria-api"
)

// inboxes are the prefixes of subjects that an answer may go to.
var inboxes = []string{"_INBOX.", "_INBOX_"}

// Inbox reports whether a node may answer on the subject: an inbox, _INBOX.… or one of a user's own, _INBOX_<user>.…. A node may publish what its
// client may not, such as records of the bucket, so a reply subject is never taken on trust.
func Inbox(subject string) bool {
	return slices.ContainsFunc(inboxes, func(prefix string) bool { return strings.HasPrefix(subject, prefix) })
}

// SubmitSubject is where a program sends the request of an operation: request and reply, Envelope and Reply.
func SubmitSubject(project string, kind block.Kind) string {
	return submitPrefix + project + "." + string(kind)
}

// ParseSubmit returns the project and the kind of a submit subject.
func ParseSubmit(subject string) (project string, kind block.Kind, err error) {
	rest, ok := strings.CutPrefix(subject, submitPrefix)
	project, k, more := strings.Cut(rest, ".")
	if !ok || !more || block.CheckToken(project) != nil {
		return "", "", Errorf(CodeInvalid, "subject %q: want %s<project>.<kind>", clip(subject), submitPrefix)
	}
	if kind = block.Kind(k); !kind.Valid() {
		return "", "", Errorf(CodeUnsupported, "there is no operation of kind %q", clip(k))
	}
	return project, kind, nil
}

// GetSubject is where a program asks how an operation stands: Query and Reply.
func GetSubject(project string) string { return getPrefix + project }

// ParseGet returns the project of a get subject.
func ParseGet(subject string) (string, error) {
	project, ok := strings.CutPrefix(subject, getPrefix)
	if !ok || block.CheckToken(project) != nil {
		return "", Errorf(CodeInvalid, "subject %q: want %s<project>", clip(subject), getPrefix)
	}
	return project, nil
}

// EventSubject is where the Updates of an operation are published as they happen. They can be lost; the answer to a
// Query is what holds.
func EventSubject(project string, kind block.Kind, id block.OperationID) string {
	return eventPrefix + project + "." + string(kind) + "." + string(id)
}

// NodeSubject is where all processes of a node answer a question. The verb is one of the NodeVerb constants.
func NodeSubject(node, verb string) string { return nodePrefix + node + "." + verb }

// BackendSubject is where the processes of a node answer a question that serve the backend.
func BackendSubject(node, backend, verb string) string {
	return NodeSubject(node, verb) + "." + backend
}

// ProcessSubject is where one process of a node answers a question.
func ProcessSubject(node, process, verb string) string {
	return NodeSubject(node, verb) + "." + process
}
