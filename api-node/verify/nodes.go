package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
)

// Nodes is the Lister that asks the volume nodes over NATS.
type Nodes struct {
	Conn *nats.Conn
	// Timeout bounds the wait for one page; 0: 10 s.
	Timeout time.Duration
}

// List returns all objects of the backend.
func (n *Nodes) List(ctx context.Context, node, backend string) (objects []messages.Object, known bool, err error) {
	ask := messages.ListObjects{V: messages.EnvelopeVersion, Backend: backend}
	for {
		page, err := n.page(ctx, node, ask)
		if err != nil {
			return nil, false, err
		}
		if page.KeepsNoData {
			return nil, false, nil
		}
		objects = append(objects, page.Objects...)
		if !page.More || len(page.Objects) == 0 {
			return objects, true, nil
		}
		last := page.Objects[len(page.Objects)-1]
		ask.AfterClass, ask.AfterID = last.Class, last.ID
	}
}

func (n *Nodes) page(ctx context.Context, node string, ask messages.ListObjects) (messages.Objects, error) {
	limit := n.Timeout
	if limit <= 0 {
		limit = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var page messages.Objects
	msg, err := n.Conn.RequestWithContext(ctx, messages.NodeSubject(node, messages.NodeVerbList), messages.Encode(ask))
	if err != nil {
		return page, fmt.Errorf("node %s: %w", node, err)
	}
	if err := messages.Decode(msg.Data, &page); err != nil {
		return page, fmt.Errorf("node %s: %w", node, err)
	}
	if page.Error != nil {
		return page, fmt.Errorf("node %s: %w", node, page.Error)
	}
	return page, nil
}
