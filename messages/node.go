package messages

// NodeVerbList is the verb of NodeSubject that asks for the objects of a backend: ListObjects and Objects.
const NodeVerbList = "list"

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
