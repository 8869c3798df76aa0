package messages

import "github.com/scoria-storage/scoria/messages/block"

// Questions to volume nodes.
const (
	// NodeVerbProcesses asks a node which of its processes run, on NodeSubject: any question, and Processes from the first
	// one that answers.
	NodeVerbProcesses = "processes"
	// NodeVerbList asks a process for the objects of a backend, on ProcessSubject: ListObjects and Objects.
	NodeVerbList = "list"
	// NodeVerbServing asks a process which backends it serves, on ProcessSubject: any question, and Serving.
	NodeVerbServing = "serving"
	// NodeVerbFence asks whoever serves a backend on a node to raise the fence of an operation there, on BackendSubject: RaiseFence, and
	// FenceRaised when it is done, which may take as long as the backend waits for a writer.
	NodeVerbFence = "fence"
)

// Processes answers NodeVerbProcesses.
type Processes struct {
	V     int    `msgpack:"v"`
	Error *Error `msgpack:"error,omitempty"`
	// Processes are the names of those that run, one that hangs included.
	Processes []string `msgpack:"processes,omitempty"`
}

// Serving answers NodeVerbServing.
type Serving struct {
	V        int      `msgpack:"v"`
	Error    *Error   `msgpack:"error,omitempty"`
	Backends []Serves `msgpack:"backends,omitempty"`
}

// Serves is a backend that a process serves.
type Serves struct {
	Backend string `msgpack:"backend"`
	// Away says why what the backend keeps cannot be reached at this moment: the process goes on by itself when it can; empty: it can.
	Away string `msgpack:"away,omitempty"`
}

// MaxObjects is the most objects in one answer.
const MaxObjects = 2000

// ListObjects asks a volume node what a backend really holds, in the order of (Class, ID).
type ListObjects struct {
	V       int    `msgpack:"v"`
	Backend string `msgpack:"backend"`
	// AfterClass and AfterID go on behind the last object of the answer before; empty: from the start.
	AfterClass string `msgpack:"after_class,omitempty"`
	AfterID    string `msgpack:"after_id,omitempty"`
}

// Objects answers ListObjects.
type Objects struct {
	V     int    `msgpack:"v"`
	Error *Error `msgpack:"error,omitempty"`
	// Identity of the storage behind the backend, if it has one.
	Identity string `msgpack:"identity,omitempty"`
	// KeepsNoData: the backend keeps nothing and so cannot list.
	KeepsNoData bool     `msgpack:"keeps_no_data,omitempty"`
	Objects     []Object `msgpack:"objects,omitempty"`
	More        bool     `msgpack:"more,omitempty"`
}

// Classes of objects.
const (
	ObjectVolume    = "volume"
	ObjectSnapshot  = "snapshot"
	ObjectTemporary = "temporary"
)

// Object is one thing that a backend holds.
type Object struct {
	Class string `msgpack:"class"`
	// ID of a temporary is <operation>.<ID of what is being made>.
	ID    string `msgpack:"id"`
	Bytes int64  `msgpack:"bytes"`
}

// RaiseFence asks that nothing of an operation that was made void lands on its backend any more. The operation's record says what it
// writes, and the fence.
type RaiseFence struct {
	V         int               `msgpack:"v"`
	Operation block.OperationID `msgpack:"operation"`
}

// FenceRaised answers RaiseFence. Without an error the fence is raised.
type FenceRaised struct {
	V     int    `msgpack:"v"`
	Error *Error `msgpack:"error,omitempty"`
}
