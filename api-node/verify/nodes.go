package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
)

// Nodes asks the volume nodes over NATS. It is the Asker.
type Nodes struct {
	Conn *nats.Conn
	// Timeout bounds the wait for one answer; 0: 10 s.
	Timeout time.Duration
}

// Processes names the running processes of a node, by whichever answers first.
func (n *Nodes) Processes(ctx context.Context, node string) ([]string, error) {
	var out messages.Processes
	if err := n.ask(ctx, messages.NodeSubject(node, messages.NodeVerbProcesses), nil, &out); err != nil {
		return nil, err
	}
	if out.Error != nil {
		return nil, out.Error
	}
	return out.Processes, nil
}

// List returns what a process of the node finds on the backend.
func (n *Nodes) List(ctx context.Context, node, process, backend string) (Listing, error) {
	var out Listing
	question := messages.ListObjects{V: messages.EnvelopeVersion, Backend: backend}
	for {
		var page messages.Objects
		if err := n.ask(ctx, messages.ProcessSubject(node, process, messages.NodeVerbList), messages.Encode(question), &page); err != nil {
			return Listing{}, err
		}
		if page.Error != nil {
			return Listing{}, page.Error
		}
		out.Identity = page.Identity
		out.Objects = append(out.Objects, page.Objects...)
		if !page.More || len(page.Objects) == 0 {
			return out, nil
		}
		last := page.Objects[len(page.Objects)-1]
		question.AfterClass, question.AfterID = last.Class, last.ID
	}
}

// Serving returns which backends a process of the node serves, as it says itself.
func (n *Nodes) Serving(ctx context.Context, node, process string) ([]messages.Serves, error) {
	var out messages.Serving
	if err := n.ask(ctx, messages.ProcessSubject(node, process, messages.NodeVerbServing), nil, &out); err != nil {
		return nil, err
	}
	if out.Error != nil {
		return nil, out.Error
	}
	return out.Backends, nil
}

// ask waits for one answer. That none came is ErrNoAnswer, that nobody is there to answer ErrNobody, too.
func (n *Nodes) ask(ctx context.Context, subject string, question []byte, answer any) error {
	limit := n.Timeout
	if limit <= 0 {
		limit = 10 * time.Second
	}
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	msg, err := n.Conn.RequestWithContext(wait, subject, question)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNobody
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("%w within %s", ErrNoAnswer, limit)
	case err != nil:
		return err
	}
	return messages.Decode(msg.Data, answer)
}
