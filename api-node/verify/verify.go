// Package verify proves that the books agree with the records, the locks with the operations, and the backends with both.
//
// Nouns: a world is everything that the bucket holds at about one moment, and what the processes of the volume nodes find on
// their backends, the listings; a Difference is one thing in it that does not agree, in words; a Report is what a check found.
//
// Invariants:
//   - Nothing is written.
//   - What changes while it is read is no difference: one counts only if it is still there, word for word, when the bucket
//     has been read again.
//   - Every process of every node that serves a backend with data is asked what it finds there; a check is not clean while one
//     does not answer.
//
// It repairs nothing: what it names is for a person, with the operation's ID where there is one.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
)

// Difference is one thing that does not agree.
type Difference struct {
	// Kind: quota, pool, lock, status, children, backend, node, record.
	Kind string `json:"kind"`
	// Subject is the key or the object.
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// Report is what a check found.
type Report struct {
	Clean       bool           `json:"clean"`
	Differences []Difference   `json:"differences"`
	Checked     map[string]int `json:"checked"`
}

// Asker asks the volume nodes.
type Asker interface {
	// Processes names the running processes of a node. Errors: ErrNoAnswer.
	Processes(ctx context.Context, node string) ([]string, error)
	// List returns what a process of the node finds on the backend. Errors: ErrNoAnswer, and what the process says
	// (*messages.Error; CodeNotFound: it does not serve that backend).
	List(ctx context.Context, node, process, backend string) (Listing, error)
}

var (
	// ErrNoAnswer: who was asked does not answer.
	ErrNoAnswer = errors.New("no answer")
	// ErrNobody: nobody has a connection who could answer. It is an ErrNoAnswer.
	ErrNobody = fmt.Errorf("%w: nobody listens", ErrNoAnswer)
)

// Listing is what a process finds on a backend that keeps data.
type Listing struct {
	Identity string // of the storage that it serves; empty: it has none
	Objects  []messages.Object
}

// Verifier checks one bucket.
type Verifier struct {
	store *kvtx.Store
	ask   Asker
}

// New makes a Verifier.
func New(store *kvtx.Store, ask Asker) *Verifier { return &Verifier{store: store, ask: ask} }

// looks is how often the bucket is read before what is still there counts as a difference.
const looks = 4

// Verify checks the bucket and the backends.
func (v *Verifier) Verify(ctx context.Context) (Report, error) {
	var still []Difference
	var silent sync.Map
	for look := range looks {
		w, err := v.read(ctx, &silent)
		if err != nil {
			return Report{}, err
		}
		found := w.compare()
		if look > 0 {
			found = slices.DeleteFunc(found, func(d Difference) bool { return !slices.Contains(still, d) })
		}
		still = found
		if len(still) == 0 {
			return Report{Clean: true, Differences: []Difference{}, Checked: w.counts()}, nil
		}
		if look == looks-1 {
			return Report{Differences: still, Checked: w.counts()}, nil
		}
		select { // give what is under way the time to go on
		case <-ctx.Done():
			return Report{}, ctx.Err()
		case <-time.After(100 * time.Millisecond << look):
		}
	}
	return Report{}, nil
}

func (v *Verifier) read(ctx context.Context, silent *sync.Map) (*world, error) {
	w := newWorld()
	if err := v.store.Scan(ctx, ">", w.add); err != nil {
		return nil, fmt.Errorf("read the bucket: %w", err)
	}
	v.roundOf(w, silent).all(ctx)
	return w, ctx.Err()
}
