package apinode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// fenceLimit bounds the wait for one node, which may have to end a writer first. A node tries for 2 minutes and then says why it could not: that
// is to be heard.
const fenceLimit = 2*time.Minute + 15*time.Second

// fences asks the volume nodes that serve a backend.
type fences struct {
	nc   *nats.Conn
	view *view.View
}

// RaiseFence asks one node after the other, until one has done it.
func (f *fences) RaiseFence(ctx context.Context, backend string, id block.OperationID) error {
	b, ok := f.view.Backend(backend)
	if !ok {
		return fmt.Errorf("no node has registered backend %s", backend)
	}
	err := errors.New("no node serves it")
	for _, node := range f.view.Nodes() {
		if !b.MayBeServedBy(&node) {
			continue
		}
		if err = f.ask(ctx, node.Name, backend, id); err == nil {
			return nil
		}
	}
	return err
}

func (f *fences) ask(ctx context.Context, node, backend string, id block.OperationID) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	question := messages.Encode(messages.RaiseFence{V: messages.EnvelopeVersion, Operation: id})
	msg, err := f.nc.RequestWithContext(ctx, messages.BackendSubject(node, backend, messages.NodeVerbFence), question)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("no process of node %s that serves it runs", node)
	case err != nil:
		return fmt.Errorf("node %s does not answer: %w", node, err)
	}
	var out messages.FenceRaised
	if err := messages.Decode(msg.Data, &out); err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	if out.Error != nil {
		return fmt.Errorf("node %s: %w", node, out.Error)
	}
	return nil
}
