package admit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

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

// chooseBackend returns the backend in the zone with the most room, by what the view knows. Where it is wrong, the
// operation's first step finds out and looks for another one. A backend that keeps no data is for measuring: it is chosen
// only where none that keeps data is served, not where that one is full.
func (a *Admitter) chooseBackend(zone string, size block.GiB) (string, error) {
	backends := a.hints.Backends()
	measuring := !slices.ContainsFunc(backends, func(b records.Backend) bool {
		return b.KeepsData && a.zoneOf(b) == zone && a.served(b.Name)
	})
	var why []string
	best, most, ties := "", 0.0, 0
	for _, b := range backends {
		room, err := a.roomIn(b, zone, size)
		if err == nil && !b.KeepsData && !measuring {
			err = errors.New("keeps no data")
		}
		if err != nil {
			why = append(why, b.Name+" "+err.Error())
			continue
		}
		switch {
		case best == "" || room > most:
			best, most, ties = b.Name, room, 1
		case room == most: // among equals by chance, so that a burst is spread
			if ties++; rand.IntN(ties) == 0 {
				best = b.Name
			}
		}
	}
	if best != "" {
		return best, nil
	}
	if len(why) == 0 {
		why = append(why, "no volume node has reported a backend")
	}
	return "", messages.Errorf(messages.CodeNoBackend, "No valid backend was found. %s.", strings.Join(why, "; "))
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
