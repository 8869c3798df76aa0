package records

import (
	"strconv"
	"strings"

	"github.com/scoria-storage/scoria/messages/block"
)

// Prefixes of the keys of the bucket. op. and lock. are kvlock's.
const (
	volumePrefix     = "volume."
	snapshotPrefix   = "snapshot."
	attachmentPrefix = "attachment."
	quotaPrefix      = "quota."
	creditInfix      = ".credit."
	poolPrefix       = "pool."
	backendPrefix    = "backend."
	storagePrefix    = "storage."
	nodePrefix       = "node."
)

// VolumeKey is the key of a volume's record, and the key that operations claim.
func VolumeKey(id block.VolumeID) string { return volumePrefix + string(id) }

// SnapshotKey is the key of a snapshot's record, and the key that operations claim.
func SnapshotKey(id block.SnapshotID) string { return snapshotPrefix + string(id) }

// AttachmentKey is the key of an attachment's record.
func AttachmentKey(id block.AttachmentID) string { return attachmentPrefix + string(id) }

// AttachKey is the key that operations claim to change how a volume is attached. It has no record of its own.
func AttachKey(id block.VolumeID) string { return "attach." + string(id) }

// QuotaKey is the key of a project's quota.
func QuotaKey(project string) string { return quotaPrefix + project }

// CreditKey is the key of what a node gave back to a project.
func CreditKey(project, node string) string { return quotaPrefix + project + creditInfix + node }

// PoolKey is the key of a backend's pool.
func PoolKey(backend string) string { return poolPrefix + backend }

// BackendKey is the key of a backend's description.
func BackendKey(name string) string { return backendPrefix + name }

// StorageKey is the key of a storage, by its identity.
func StorageKey(identity string) string { return storagePrefix + identity }

// NodeKey is the key of a node.
func NodeKey(name string) string { return nodePrefix + name }

// Class says which type of record a key holds.
type Class uint8

const (
	// ClassOther is a key that no reader of the whole bucket needs: storage., and what this package does not know, such
	// as op., lock. and rcpt.
	ClassOther Class = iota
	ClassVolume
	ClassSnapshot
	ClassAttachment
	ClassQuota
	ClassCredit
	ClassPool
	ClassBackend
	ClassNode
)

// Classify returns what the key holds and the name after the prefix.
func Classify(key string) (class Class, name string) {
	prefix, name, ok := strings.Cut(key, ".")
	if !ok {
		return ClassOther, ""
	}
	switch prefix + "." {
	case volumePrefix:
		return ClassVolume, name
	case snapshotPrefix:
		return ClassSnapshot, name
	case attachmentPrefix:
		return ClassAttachment, name
	case quotaPrefix:
		if strings.Contains(name, creditInfix) {
			return ClassCredit, name
		}
		return ClassQuota, name
	case poolPrefix:
		return ClassPool, name
	case backendPrefix:
		return ClassBackend, name
	case nodePrefix:
		return ClassNode, name
	}
	return ClassOther, name
}

// DispatchConsumer is the name of the consumer that all workers of a backend share.
func DispatchConsumer(backend string) string { return "node-" + backend }

// DispatchPrefix is the dispatch subject of an operation after "op.<bucket>.", without the number.
func DispatchPrefix(backend string, id block.OperationID) string {
	return "req." + backend + "." + string(id)
}

// DispatchParts are the tokens of a dispatch subject after "op.<bucket>.".
func DispatchParts(backend string, id block.OperationID, n uint64) []string {
	return []string{"req", backend, string(id), strconv.FormatUint(n, 10)}
}
