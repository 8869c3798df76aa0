// Package export says how a volume reaches a host.
//
// Nouns. An *export* is one volume made reachable for one attachment; its name is the attachment's ID. A *connection*
// is what a host needs to know to use it. A *hold* is a moment in which no write of any host reaches a volume, so that
// a copy taken in it is one state of the volume.
//
// Invariants, of every Exporter:
//
//   - A call may be repeated: an export that exists as asked for, and one to be removed that is missing, are successes.
//   - When Unexport has returned without an error, no byte of that attachment reaches the volume any more: its
//     connections are closed, its writes have ended, and what was written is on stable storage.
//   - Fences of a volume only rise. A call with a fence lower than one seen for the same volume changes nothing and
//     fails with [ErrFenced], after a restart too.
//   - While a hold lasts nothing is written to the volume through any export, old or new. Hold.Release is the proof: only
//     when it returns nil was the hold in place from the return of Hold until then.
//   - Exports are durable: they end by Unexport alone. After the death of whatever moves the data they come back under
//     the same connection.
//
// What it does not do: it knows nothing of drivers, locks or records; it gets the path of a file or block device and a
// number of bytes. It does not decide whether a volume may be attached.
package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// Errors that callers branch on; every Exporter returns errors that match them.
var (
	// ErrFenced: a worker with a higher fence has been here; this one was overtaken and stops.
	ErrFenced = errors.New("fenced: a later operation has changed the exports of this volume")
	// ErrConflict: the attachment is exported already, with another volume, path or mode.
	ErrConflict = errors.New("conflict with an existing export")
	// ErrInvalid: the request can never succeed as it is (an ID that is no token, a size that the file does not have).
	ErrInvalid = errors.New("invalid export request")
	// ErrNotFound: the path to export does not exist.
	ErrNotFound = errors.New("nothing to export")
	// ErrHoldLost: the hold ended before it was released (limit, restart); what was copied under it is not one state.
	ErrHoldLost = errors.New("hold lost")
	// ErrUnavailable: the export server cannot be reached or started now; the call may be repeated.
	ErrUnavailable = errors.New("export server unavailable")
)

// Fence orders the workers that change the exports of one volume: era first, then revision.
type Fence struct {
	Era uint64 `json:"era"`
	Rev uint64 `json:"rev"`
}

// Compare returns a negative number if f is lower than g, 0 if they are equal, a positive number if f is higher.
func (f Fence) Compare(g Fence) int {
	return cmp.Or(cmp.Compare(f.Era, g.Era), cmp.Compare(f.Rev, g.Rev))
}

// String returns era and revision with a dot between them.
func (f Fence) String() string { return fmt.Sprintf("%d.%d", f.Era, f.Rev) }

// Request asks for an export.
type Request struct {
	Attachment string `json:"attachment"` // the name of the export; a token
	Volume     string `json:"volume"`     // a token; fences and holds count for the volume
	Operation  string `json:"operation"`  // for logs only
	Fence      Fence  `json:"fence"`
	Path       string `json:"path"`  // absolute path of a file or block device
	Bytes      int64  `json:"bytes"` // what the host sees; never more than the file has
	ReadOnly   bool   `json:"read_only"`
}

// Removal asks for the end of an export.
type Removal struct {
	Attachment string `json:"attachment"`
	Volume     string `json:"volume"`
	Operation  string `json:"operation"` // for logs only
	Fence      Fence  `json:"fence"`
}

// Connection is what a host needs to use an export.
type Connection struct {
	Protocol string `json:"protocol"` // "nbd"
	URI      string `json:"uri"`      // nbd+unix:///<name>?socket=<socket>
	Socket   string `json:"socket"`   // path of the Unix socket on this node
	Name     string `json:"name"`     // the export's name: the attachment's ID
	Bytes    int64  `json:"bytes"`
	ReadOnly bool   `json:"read_only"`
}

// Exported is one export as it stands.
type Exported struct {
	Attachment string     `json:"attachment"`
	Volume     string     `json:"volume"`
	Path       string     `json:"path"`
	Fence      Fence      `json:"fence"` // the highest seen for the volume
	Connection Connection `json:"connection"`
	Clients    int        `json:"clients"`         // connections of hosts at this moment
	Fault      string     `json:"fault,omitempty"` // why hosts cannot use it now, in words; empty: they can
}

// Hold is a volume whose hosts' writes wait.
type Hold interface {
	// Release lets the writes go on. It returns an error that matches ErrHoldLost if the hold had ended before, or if
	// that cannot be told: then what was copied meanwhile must not be trusted. Only the first call releases and tells;
	// later ones return what the first one did.
	Release() error
}

// Exporter makes volumes of this node reachable. It is safe for concurrent use.
type Exporter interface {
	// Export makes the volume reachable under the attachment's name. An equal export that exists is a success; larger
	// Bytes grow it. Errors: ErrFenced, ErrConflict, ErrInvalid, ErrNotFound, ErrUnavailable.
	Export(ctx context.Context, r Request) (Connection, error)
	// Unexport cuts the host off before it returns. A missing export is a success. If ctx ends before the last write
	// did, it returns an error, the host stays cut off, and the call may be repeated. Errors: ErrFenced, ErrConflict
	// (the attachment belongs to another volume), ErrInvalid, ErrUnavailable.
	Unexport(ctx context.Context, r Removal) error
	// Hold flushes the volume and makes the writes of all its exports wait, also of those made later. It succeeds for a
	// volume without exports. The hold ends by itself after a limit, ten seconds unless the server was told otherwise.
	Hold(ctx context.Context, volume string) (Hold, error)
	// List returns all exports of this node, ordered by attachment.
	List(ctx context.Context) ([]Exported, error)
	// Resize makes new connections to the volume's exports see the new size, which the file has already. It never
	// shrinks: a smaller size is ErrInvalid. A volume without exports is a success. It has no fence and needs none: a call
	// that comes late can neither show a host less than it saw nor more than there is.
	Resize(ctx context.Context, volume string, bytes int64) error
}
