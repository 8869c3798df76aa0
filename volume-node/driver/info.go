package driver

// Fencing says what keeps the effects of two workers of one operation apart.
type Fencing string

// The fencing classes.
const (
	// FencingStore: the backend itself refuses a lower fence, or has no effects that could be late.
	FencingStore Fencing = "store"
	// FencingNode: only processes of one node reach the backend; file locks of that node keep them apart.
	FencingNode Fencing = "node"
	// FencingNone: nothing does. Another node takes over only after the first was declared fenced.
	FencingNone Fencing = "none"
)

// LockClass says which lock the backend needs for a call.
type LockClass string

// The lock classes.
const (
	LockNone LockClass = "none" // calls may run side by side
	LockNode LockClass = "node" // a file lock on this node for each thing that is written
	LockPool LockClass = "pool" // that, and a lock of the whole pool that all nodes see; Lock.Name is the pool's
)

// Lock is the lock that a call needs; the driver takes it itself (package lock).
type Lock struct {
	Class LockClass
	Name  string // of class pool
}

// Capabilities says what a backend can do. The zero value can do the least.
type Capabilities struct {
	// CloneWhileOpen: snapshots and clones take a moment only, so the source's writes can be held for it.
	CloneWhileOpen bool
	// Revert: RevertVolume works.
	Revert bool
	// Thin: volumes take room only where they were written.
	Thin bool
	// OnlineExtend: a volume can be extended while hosts have it open.
	OnlineExtend bool
	// KeepsData: what is written can be read again. False: the backend is for measuring; it lists nothing, looks at
	// nothing and has no sources.
	KeepsData bool
	// Lists: List works.
	Lists bool
}

// Info says what a driver is and can do.
type Info struct {
	Kind         string // as in the Spec
	Identity     string // of the storage behind it, made when it was first used: a token; empty: has none
	Fencing      Fencing
	Capabilities Capabilities
	Locks        map[Method]Lock // methods that are missing need none
	Notes        []string        // for people: what one should know of this backend
}

// Lock returns the lock that the method needs.
func (i Info) Lock(m Method) Lock {
	if l, ok := i.Locks[m]; ok {
		return l
	}
	return Lock{Class: LockNone}
}

// Method names a method of Driver.
type Method string

// The methods that reach the backend.
const (
	MethodCapacity           Method = "Capacity"
	MethodCreateVolume       Method = "CreateVolume"
	MethodCloneVolume        Method = "CloneVolume"
	MethodCreateFromSnapshot Method = "CreateFromSnapshot"
	MethodExtendVolume       Method = "ExtendVolume"
	MethodDeleteVolume       Method = "DeleteVolume"
	MethodCreateSnapshot     Method = "CreateSnapshot"
	MethodDeleteSnapshot     Method = "DeleteSnapshot"
	MethodRevertVolume       Method = "RevertVolume"
	MethodRaiseFence         Method = "RaiseFence"
	MethodList               Method = "List"
	MethodLook               Method = "Look"
	MethodSource             Method = "Source"
	MethodCleanup            Method = "Cleanup"
)

// Writing lists the methods that change a thing on the backend, in the order of the interface.
func Writing() []Method {
	return []Method{
		MethodCreateVolume, MethodCloneVolume, MethodCreateFromSnapshot, MethodExtendVolume, MethodDeleteVolume,
		MethodCreateSnapshot, MethodDeleteSnapshot, MethodRevertVolume, MethodRaiseFence,
	}
}
