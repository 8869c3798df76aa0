package rest

import (
	"net/http"
	"time"

	"github.com/scoria-storage/scoria/messages/block"
)

type nodeView struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Backends []string  `json:"backends"`
	Seen     time.Time `json:"seen"`
	Release  string    `json:"release"`
}

type poolView struct {
	Backend string `json:"backend"`
	// TotalBytes and FreeBytes are -1 for a backend without bounds.
	TotalBytes   int64     `json:"total_bytes"`
	FreeBytes    int64     `json:"free_bytes"`
	ReportedAt   time.Time `json:"reported_at"`
	Ratio        float64   `json:"over_subscription_ratio"`
	AllocatedGiB block.GiB `json:"allocated_gib"`
}

func (c *call) listNodes() error {
	nodes := []nodeView{}
	for _, n := range c.reader().Nodes() {
		backends := n.Backends
		if backends == nil {
			backends = []string{}
		}
		nodes = append(nodes, nodeView{n.Name, n.ID, backends, n.Seen, n.Release})
	}
	return c.replyJSON(http.StatusOK, map[string]any{"nodes": nodes})
}

func (c *call) listPools() error {
	pools := []poolView{}
	for _, p := range c.reader().Pools() {
		pools = append(pools, poolView{p.Backend, p.TotalBytes, p.FreeBytes, p.ReportedAt, p.Ratio, p.AllocatedGiB})
	}
	return c.replyJSON(http.StatusOK, map[string]any{"pools": pools})
}
