package admit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/api-node/serving"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// zoneOf is the availability zone of a backend.
func (a *Admitter) zoneOf(b records.Backend) string {
	if b.Zone == "" {
		return a.defaults.Zone
	}
	return b.Zone
}

// checkZone refuses a zone that no backend is in.
func (a *Admitter) checkZone(zone string) error {
	if zone == "" || zone == a.defaults.Zone {
		return nil
	}
	if slices.ContainsFunc(a.hints.Backends(), func(b records.Backend) bool { return b.Zone == zone }) {
		return nil
	}
	return messages.Errorf(messages.CodeInvalid, "Availability zone '%s' is invalid.", zone)
}

// Serving knows which backends processes serve, as they have said lately.
type Serving interface {
	Recent(ctx context.Context) *serving.Round
}

// WithServing makes the Admitter put no new volume where nobody works on it, if it can be elsewhere.
func WithServing(s Serving) Option { return func(a *Admitter) { a.serving = s } }

// chooseBackend returns the backend in the zone with the most room, by what the view knows. Where it is wrong, the
// operation's first step finds out and looks for another one. A backend that keeps no data is for measuring: it is chosen
// only where none that keeps data is served, not where that one is full.
func (a *Admitter) chooseBackend(ctx context.Context, zone string, size block.GiB) (string, error) {
	backends := a.hints.Backends()
	measuring := !slices.ContainsFunc(backends, func(b records.Backend) bool {
		return b.KeepsData && a.zoneOf(b) == zone && a.served(b.Name)
	})
	var why []string
	var can []candidate
	for _, b := range backends {
		room, err := a.roomIn(b, zone, size)
		if err == nil && !b.KeepsData && !measuring {
			err = errors.New("keeps no data")
		}
		if err != nil {
			why = append(why, b.Name+" "+err.Error())
			continue
		}
		can = append(can, candidate{b, room})
	}
	if len(can) > 0 {
		return emptiest(a.withoutTrouble(ctx, can)), nil
	}
	if len(why) == 0 {
		why = append(why, "no volume node has reported a backend")
	}
	return "", messages.Errorf(messages.CodeNoBackend, "No valid backend was found. %s.", strings.Join(why, "; "))
}

// candidate is a backend that may take a volume, and the room that it has.
type candidate struct {
	backend records.Backend
	room    float64
}

// withoutTrouble leaves out the backends that nobody serves or reaches at the moment, unless there are no others.
func (a *Admitter) withoutTrouble(ctx context.Context, can []candidate) []candidate {
	if a.serving == nil || len(can) < 2 {
		return can
	}
	now := a.serving.Recent(ctx)
	var good []candidate
	for _, c := range can {
		if now.Of(c.backend).Trouble(c.backend.Name) == "" {
			good = append(good, c)
		}
	}
	if len(good) == 0 {
		return can
	}
	return good
}

// emptiest is the name of one with the most room: among equals by chance, so that a burst is spread.
func emptiest(can []candidate) string {
	rand.Shuffle(len(can), func(i, j int) { can[i], can[j] = can[j], can[i] })
	return slices.MaxFunc(can, func(a, b candidate) int { return cmp.Compare(a.room, b.room) }).backend.Name
}

// roomIn returns how many more bytes may be allocated on the backend, or why it is out of the question.
func (a *Admitter) roomIn(b records.Backend, zone string, size block.GiB) (float64, error) {
	if z := a.zoneOf(b); z != zone {
		return 0, fmt.Errorf("is in zone %s, not in %s", z, zone)
	}
	return a.roomFor(b.Name, size)
}

// served reports whether a node serves the backend: its own one, if it has one. Another one may have served it, under the same name, before
// it was forgotten.
func (a *Admitter) served(backend string) bool {
	b, _ := a.hints.Backend(backend)
	return slices.ContainsFunc(a.hints.Nodes(), func(n records.Node) bool {
		return (b.Node == "" || n.ID == b.Node) && slices.Contains(n.Backends, backend)
	})
}

func (a *Admitter) roomFor(backend string, size block.GiB) (float64, error) {
	p, ok := a.hints.Pool(backend)
	switch {
	case !ok:
		return 0, fmt.Errorf("has reported no room")
	case !a.served(backend):
		return 0, fmt.Errorf("is served by no node")
	case p.TotalBytes < 0:
		return 1 << 62, nil
	case !p.Room(size):
		return 0, fmt.Errorf("has no room for %d GiB: %s", size, p.Words())
	}
	return p.Ratio*float64(p.TotalBytes) - float64(p.AllocatedGiB.Bytes()), nil
}
