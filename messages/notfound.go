package messages

import "github.com/scoria-storage/scoria/messages/block"

// What does not exist is said as Cinder says it, wherever it is found out: clients compare the texts. An ID may be
// anything that a client sent.

// VolumeNotFound is the error of a volume that does not exist, or not for this project.
func VolumeNotFound(id block.VolumeID) *Error {
	return Errorf(CodeNotFound, "Volume %s could not be found.", clip(string(id)))
}

// SnapshotNotFound is VolumeNotFound of a snapshot.
func SnapshotNotFound(id block.SnapshotID) *Error {
	return Errorf(CodeNotFound, "Snapshot %s could not be found.", clip(string(id)))
}

// AttachmentNotFound is VolumeNotFound of an attachment.
func AttachmentNotFound(id block.AttachmentID) *Error {
	return Errorf(CodeNotFound, "Volume attachment could not be found with filter: attachment_id = %s.", clip(string(id)))
}

// OperationNotFound is VolumeNotFound of an operation.
func OperationNotFound(id block.OperationID) *Error {
	return Errorf(CodeNotFound, "Operation %s could not be found.", clip(string(id)))
}

// TypeNotFound is the error of a volume type with an ID that is none.
func TypeNotFound(id string) *Error {
	return Errorf(CodeNotFound, "Volume type %s could not be found.", clip(id))
}

// TypeNameNotFound is the error of a volume type with a name that is none.
func TypeNameNotFound(name string) *Error {
	return Errorf(CodeNotFound, "Volume type with name %s could not be found.", clip(name))
}
