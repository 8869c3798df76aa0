package records

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/messages/block"
)

// Unlimited is a limit that is none.
const Unlimited = -1

// Usage counts what a project has, or is given back.
type Usage struct {
	Volumes   int64     `msgpack:"volumes"`
	Snapshots int64     `msgpack:"snapshots"`
	GiB       block.GiB `msgpack:"gib"`
}

// Add returns the sum.
func (u Usage) Add(o Usage) Usage {
	return Usage{u.Volumes + o.Volumes, u.Snapshots + o.Snapshots, u.GiB + o.GiB}
}

// Sub returns the difference.
func (u Usage) Sub(o Usage) Usage {
	return Usage{u.Volumes - o.Volumes, u.Snapshots - o.Snapshots, u.GiB - o.GiB}
}

// IsZero reports whether nothing is counted.
func (u Usage) IsZero() bool { return u == Usage{} }

// Limits bounds the use of a project; Unlimited (-1) is no bound.
type Limits struct {
	Volumes   int64     `msgpack:"volumes"`
	Snapshots int64     `msgpack:"snapshots"`
	GiB       block.GiB `msgpack:"gib"`
}

// Quota is the book of one project.
type Quota struct {
	Project string `msgpack:"project"`
	// Limits is nil for a project that has the defaults.
	Limits *Limits `msgpack:"limits,omitempty"`
	// Use is charged at submit. Credits lower it when they are folded in.
	Use Usage `msgpack:"use"`
}

// Credit is what one node gave back to a project and nobody folded into the quota yet.
type Credit struct {
	Project string `msgpack:"project"`
	Node    string `msgpack:"node"`
	Back    Usage  `msgpack:"back"`
}

// Pool is the room of one backend.
type Pool struct {
	Backend string `msgpack:"backend"`
	// TotalBytes and FreeBytes are what the backend reported at ReportedAt; -1: it has no bound.
	TotalBytes int64     `msgpack:"total_bytes"`
	FreeBytes  int64     `msgpack:"free_bytes"`
	ReportedAt time.Time `msgpack:"reported_at"`
	// Ratio is the over-subscription ratio: at most Ratio × TotalBytes are allocated.
	Ratio float64 `msgpack:"ratio"`
	// AllocatedGiB is the sum of ReservedGiB over the volumes of the backend.
	AllocatedGiB block.GiB `msgpack:"allocated_gib"`
}

// Room reports whether size more GiB may be reserved.
func (p *Pool) Room(size block.GiB) bool {
	if p.TotalBytes < 0 {
		return true
	}
	allocated := float64(p.AllocatedGiB.Bytes()) + float64(size.Bytes())
	return allocated <= p.Ratio*float64(p.TotalBytes) && float64(size.Bytes()) <= p.Ratio*float64(p.FreeBytes)
}

// Words says how much room there is, for a refusal.
func (p *Pool) Words() string {
	return fmt.Sprintf("%d GiB of at most %.1f × %v are allocated, %v are free",
		p.AllocatedGiB, p.Ratio, block.Bytes(p.TotalBytes), block.Bytes(p.FreeBytes))
}

// Backend describes one backend by its name.
type Backend struct {
	Name string `msgpack:"name"`
	// Kind is the driver: file, null.
	Kind string `msgpack:"kind"`
	// Fencing is the driver's fencing class: store, node, none.
	Fencing string `msgpack:"fencing"`
	// Node is the ID of the node that owns the backend, if the class is node.
	Node     string `msgpack:"node,omitempty"`
	NodeName string `msgpack:"node_name,omitempty"`
	// Reflink: volumes that are attached can be cloned and snapshotted.
	Reflink   bool   `msgpack:"reflink"`
	KeepsData bool   `msgpack:"keeps_data"`
	Zone      string `msgpack:"zone,omitempty"`
	// Identity is that of the storage behind the backend, from its first registration on; empty: it has none, or was
	// registered by a release that did not record it.
	Identity string `msgpack:"identity,omitempty"`
	// Hosts are the names of the one machine that reaches the backend's volumes; empty: any host does, or the backend was
	// registered by a release that did not say.
	Hosts []string `msgpack:"hosts,omitempty"`
}

// Reaches reports whether a host reaches the backend's volumes: one that gives no name, localhost, or one of the machine's
// names. A name without a domain stands for that name in every domain.
func (b *Backend) Reaches(host string) bool {
	return host == "" || len(b.Hosts) == 0 || strings.EqualFold(host, "localhost") ||
		slices.ContainsFunc(b.Hosts, func(name string) bool { return sameHost(name, host) })
}

// MayBeServedBy reports whether a process of the node may serve the backend, by the records.
func (b *Backend) MayBeServedBy(n *Node) bool {
	if b.Node != "" {
		return b.Node == n.ID
	}
	return slices.Contains(n.Backends, b.Name)
}

func sameHost(a, b string) bool {
	shortA, _, fullA := strings.Cut(a, ".")
	shortB, _, fullB := strings.Cut(b, ".")
	if fullA && fullB {
		return strings.EqualFold(a, b)
	}
	return strings.EqualFold(shortA, shortB)
}

// Storage says of which backend a storage is. It is made in the commit that records the identity in the backend, and
// keeps one storage from standing under two names.
type Storage struct {
	Identity string `msgpack:"identity"`
	Backend  string `msgpack:"backend"`
}

// Node is a volume node: a name with an ID that its state directory keeps.
type Node struct {
	Name string `msgpack:"name"`
	ID   string `msgpack:"id"`
	// Backends are all that a process of the node serves.
	Backends []string `msgpack:"backends"`
	// Processes are those that ran when the last one started, with the backends that each serves.
	Processes map[string][]string `msgpack:"processes,omitempty"`
	Seen      time.Time           `msgpack:"seen"`
	Release   string              `msgpack:"release"`
}

// Operation is what the application keeps in an operation's record: the request that was accepted.
type Operation struct {
	ID      block.OperationID `msgpack:"id"`
	Kind    block.Kind        `msgpack:"kind"`
	Version int               `msgpack:"version"`
	Project string            `msgpack:"project"`
	User    string            `msgpack:"user"`
	// RequestID is the caller's x-openstack-request-id or the ID of its message.
	RequestID string `msgpack:"request_id"`
	// Resource is the ID of what the operation makes or changes.
	Resource string `msgpack:"resource"`
	// Request is the request in the format of package messages, with everything that admission decided filled in.
	Request []byte `msgpack:"request"`
	// Digest tells a repeated request from another one under the same ID.
	Digest    []byte    `msgpack:"digest"`
	Submitted time.Time `msgpack:"submitted"`
	// Queue: it was to wait in line if it had to. If what it waited for has gone, nothing of it stays.
	Queue bool `msgpack:"queue,omitempty"`
	// Backend and Dispatch name the dispatch that is valid: the subject ends in <backend>.<id>.<dispatch>.
	Backend  string `msgpack:"backend"`
	Dispatch uint64 `msgpack:"dispatch"`
}
