// Package verify proves that the books agree with the records, the locks with the operations, and the backends with both.
//
// Nouns: a World is everything that the bucket holds at about one moment; a Difference is one thing in it that does
// not agree, in words; a Report is what a check found.
//
// Invariants:
//   - Nothing is written.
//   - What changes while it is read is no difference: one counts only if it is still there, word for word, when the bucket
//     has been read again.
//
// It repairs nothing: what it names is for a person, with the operation's ID where there is one.
package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
)

// Difference is one thing that does not agree.
type Difference struct {
	// Kind: quota, pool, lock, status, children, backend, record.
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

// Lister asks the volume nodes what a backend really holds.
type Lister interface {
	// List returns the objects of the backend; known is false where the backend keeps no data.
	List(ctx context.Context, node, backend string) (objects []messages.Object, known bool, err error)
}

// Verifier checks one bucket.
type Verifier struct {
	store *kvtx.Store
	list  Lister
}

// New makes a Verifier.
func New(store *kvtx.Store, list Lister) *Verifier { return &Verifier{store: store, list: list} }

// looks is how often the bucket is read before what is still there counts as a difference.
const looks = 4

// Verify checks the bucket and the backends.
func (v *Verifier) Verify(ctx context.Context) (Report, error) {
	var still []Difference
	for look := range looks {
		w, err := v.read(ctx)
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

func (v *Verifier) read(ctx context.Context) (*world, error) {
	w := newWorld()
	if err := v.store.Scan(ctx, ">", w.add); err != nil {
		return nil, fmt.Errorf("read the bucket: %w", err)
	}
	for _, b := range w.backends {
		if !b.KeepsData {
			continue
		}
		if err := v.ask(ctx, w, b.Name); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// ask lists a backend through one of the nodes that serve it.
func (v *Verifier) ask(ctx context.Context, w *world, backend string) error {
	var last error
	for _, n := range w.nodes {
		if !slices.Contains(n.Backends, backend) {
			continue
		}
		objects, known, err := v.list.List(ctx, n.Name, backend)
		if err == nil {
			if known {
				w.objects[backend] = objects
			}
			return nil
		}
		if last = err; ctx.Err() != nil {
			return ctx.Err()
		}
	}
	text := "no volume node serves it"
	if last != nil {
		text = "its objects could not be listed: " + last.Error()
	}
	w.unlisted = append(w.unlisted, Difference{"backend", backend, text})
	return nil
}
