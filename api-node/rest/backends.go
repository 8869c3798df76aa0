package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/scoria-storage/scoria/api-node/serving"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/records"
)

// Serving knows which processes serve the backends.
type Serving interface {
	Now(ctx context.Context) *serving.Round
}

type backendView struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Fencing   string `json:"fencing"`
	Node      string `json:"node,omitempty"`
	NodeID    string `json:"node_id,omitempty"`
	Reflink   bool   `json:"reflink"`
	KeepsData bool   `json:"keeps_data"`
	Zone      string `json:"zone"`
	Volumes   int    `json:"volumes"`
	Snapshots int    `json:"snapshots"`
	// ServedBy are the processes that serve it now, as they say. Unknown says why there may be others.
	ServedBy []serving.Process `json:"served_by"`
	Unknown  string            `json:"unknown,omitempty"`
}

func (c *call) listBackends() error {
	volumes, snapshots := map[string]int{}, map[string]int{}
	for v := range c.reader().Volumes("") {
		volumes[v.Backend]++
	}
	for s := range c.reader().Snapshots("") {
		snapshots[s.Backend]++
	}
	backends := []backendView{}
	for _, b := range c.reader().Backends() {
		who := c.whoServes(b)
		if who.Processes == nil {
			who.Processes = []serving.Process{}
		}
		backends = append(backends, backendView{b.Name, b.Kind, b.Fencing, b.NodeName, b.Node, b.Reflink, b.KeepsData, c.zoneOf(b.Zone),
			volumes[b.Name], snapshots[b.Name], who.Processes, who.Unknown})
	}
	return c.replyJSON(http.StatusOK, map[string]any{"backends": backends})
}

// forgetBackend removes the records of a backend that nobody serves and nothing stands on.
func (c *call) forgetBackend() error {
	if !c.who.Admin {
		return newFault(http.StatusForbidden, "Only an admin may have a backend forgotten.")
	}
	rev, err := c.api.cfg.Submitter.Forget(c.r.Context(), c.caller(), c.r.PathValue("name"))
	if err == nil {
		err = c.wait(rev, "")
	}
	if err != nil {
		return err
	}
	return c.empty(http.StatusNoContent)
}

// whoServes asks who serves a backend, unless NATS is known not to answer.
func (c *call) whoServes(b records.Backend) serving.Answer {
	switch {
	case c.api.cfg.Serving == nil:
		return serving.Answer{Unknown: "this API node cannot ask"}
	case c.api.cfg.Stream.Stale() > 0:
		return serving.Answer{Unknown: "NATS does not answer"}
	}
	return c.api.cfg.Serving.Now(c.r.Context()).Of(b)
}

// unservedAfter is how old an operation is when it is asked who serves its backend: most have ended by then.
const unservedAfter = 2 * time.Second

// unserved says why nobody goes on with an operation that is not ended, stuck or in line: nobody serves its backend; empty: somebody does,
// or it is not known.
func (c *call) unserved(op *view.Operation) string {
	switch op.Phase {
	case kvlock.Granted.String(), kvlock.Running.String(), kvlock.Undoing.String():
	default:
		return ""
	}
	if op.Ended || time.Since(op.Submitted) < unservedAfter {
		return ""
	}
	backend := records.Backend{Name: op.Backend} // one that is not known is served by nobody
	for _, b := range c.reader().Backends() {
		if b.Name == op.Backend {
			backend = b
		}
	}
	return c.whoServes(backend).Trouble(op.Backend)
}
