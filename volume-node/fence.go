package volumenode

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
)

// fenceLimit bounds one try to raise a fence: a writer that does not let go is ended before.
const fenceLimit = 2 * time.Minute

// maxFences is how many fences are raised at a time; more questions wait.
const maxFences = 16

// answerFences raises the fences of operations that are being broken, several at a time: each may have to wait for a writer. The function that it returns ends that, and waits for what is under way.
func (n *Node) answerFences(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var subjects []string
	for _, name := range n.names() {
		subjects = append(subjects, messages.BackendSubject(n.cfg.Name, name, messages.NodeVerbFence))
	}
	var raising sync.WaitGroup
	slots := make(chan struct{}, maxFences)
	end, err := n.take(ctx, subjects, func(ctx context.Context, m *nats.Msg) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		raising.Go(func() {
			defer func() { <-slots }()
			out := messages.FenceRaised{V: messages.EnvelopeVersion}
			if err := n.raiseFence(ctx, m.Data); err != nil {
				out.Error = messages.AsError(err)
			}
			n.respond(ctx, m, out)
		})
	})
	if err != nil {
		cancel()
		return nil, err
	}
	return func() {
		cancel()
		end()
		raising.Wait()
	}, nil
}

func (n *Node) raiseFence(ctx context.Context, question []byte) error {
	var q messages.RaiseFence
	if err := messages.Decode(question, &q); err != nil {
		return err
	}
	if err := messages.CheckVersion("question", q.V); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	rec, err := n.deps.Locks.Record(ctx, string(q.Operation))
	if err != nil {
		return err
	}
	if err := n.env.RaiseFence(ctx, rec); err != nil {
		n.log.WarnContext(ctx, "fence of a broken operation not raised", "operation", q.Operation, "fence", rec.Fence().String(), "error", err)
		return err
	}
	n.log.InfoContext(ctx, "fence of a broken operation raised", "operation", q.Operation, "fence", rec.Fence().String())
	return nil
}
