package volumenode

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// answer takes the questions that are put to the node and to this process, those of each kind one at a time because a backend's list is
// read whole. The function that it returns ends that, and waits for the answers under way.
func (n *Node) answer() (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, stop := range stops {
			stop()
		}
	}
	for subject, answer := range map[string]func(context.Context, []byte) any{
		messages.NodeSubject(n.cfg.Name, messages.NodeVerbProcesses):            n.processes,
		messages.ProcessSubject(n.cfg.Name, n.worker, messages.NodeVerbServing): n.serving,
		messages.ProcessSubject(n.cfg.Name, n.worker, messages.NodeVerbList):    n.list,
	} {
		end, err := n.take(context.Background(), []string{subject}, func(ctx context.Context, m *nats.Msg) {
			n.respond(ctx, m, answer(ctx, m.Data))
		})
		if err != nil {
			stop()
			return nil, err
		}
		stops = append(stops, end)
	}
	return stop, nil
}

// take hands questions on the subjects to handle, one after the other. The function that it returns ends that, and waits for handle.
func (n *Node) take(ctx context.Context, subjects []string, handle func(context.Context, *nats.Msg)) (stop func(), err error) {
	conn := n.deps.Store.Conn()
	questions := make(chan *nats.Msg, 64)
	var subs []*nats.Subscription
	unsubscribe := func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
	}
	for _, subject := range subjects {
		sub, err := conn.ChanSubscribe(subject, questions)
		if err != nil {
			unsubscribe()
			return nil, fmt.Errorf("node %s: %w", n.cfg.Name, err)
		}
		subs = append(subs, sub)
	}
	ctx, cancel := context.WithCancel(ctx)
	var handling sync.WaitGroup
	handling.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-questions:
				if messages.Inbox(m.Reply) { // an answer elsewhere would write what the asker may not
					handle(ctx, m)
				}
			}
		}
	})
	stop = func() {
		unsubscribe()
		cancel()
		handling.Wait()
	}
	if err := conn.Flush(); err != nil {
		stop()
		return nil, fmt.Errorf("node %s: %w", n.cfg.Name, err)
	}
	return stop, nil
}

func (n *Node) respond(ctx context.Context, m *nats.Msg, answer any) {
	if err := m.Respond(messages.Encode(answer)); err != nil {
		n.log.WarnContext(ctx, "question not answered", "subject", m.Subject, "error", err)
	}
}

// processes answers which processes of the node run.
func (n *Node) processes(context.Context, []byte) any {
	out := messages.Processes{V: messages.EnvelopeVersion}
	var err error
	if out.Processes, err = n.member.Running(); err != nil {
		out.Error = messages.Errorf(messages.CodeInternal, "node %s: %v", n.cfg.Name, err)
	}
	return out
}

// serving answers which backends this process serves.
func (n *Node) serving(context.Context, []byte) any {
	out := messages.Serving{V: messages.EnvelopeVersion}
	for _, b := range n.served {
		out.Backends = append(out.Backends, messages.Serves{Backend: b.spec.Name, Away: b.absence()})
	}
	return out
}

// list answers what a backend holds: one page in the order of (class, ID).
func (n *Node) list(ctx context.Context, question []byte) any {
	out := messages.Objects{V: messages.EnvelopeVersion}
	var q messages.ListObjects
	err := messages.Decode(question, &q)
	if err == nil {
		err = messages.CheckVersion("question", q.V)
	}
	if err != nil {
		out.Error = messages.AsError(err)
		return out
	}
	i := slices.IndexFunc(n.served, func(b served) bool { return b.spec.Name == q.Backend })
	if i < 0 {
		out.Error = messages.Errorf(messages.CodeNotFound, "process %s of node %s does not serve backend %q", n.worker, n.cfg.Name, q.Backend)
		return out
	}
	info := n.served[i].Info()
	out.Identity = info.Identity
	if !info.Capabilities.Lists {
		out.KeepsNoData = true
		return out
	}
	err = n.served[i].List(ctx, func(o driver.Object) error {
		if obj, ok := object(o); ok && order(obj, messages.Object{Class: q.AfterClass, ID: q.AfterID}) > 0 {
			out.Objects = append(out.Objects, obj)
		}
		return nil
	})
	if err != nil {
		return messages.Objects{V: out.V, Error: messages.Errorf(messages.CodeInternal, "backend %s: %v", q.Backend, err)}
	}
	slices.SortFunc(out.Objects, order)
	if len(out.Objects) > messages.MaxObjects {
		out.Objects, out.More = out.Objects[:messages.MaxObjects], true
	}
	return out
}

func order(a, b messages.Object) int {
	return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.ID, b.ID))
}

// object is how a thing on a backend is told of; what Scoria did not make is nobody's concern.
func object(o driver.Object) (messages.Object, bool) {
	out := messages.Object{ID: o.ID, Bytes: o.Bytes}
	switch o.Kind {
	case driver.KindVolume:
		out.Class = messages.ObjectVolume
	case driver.KindSnapshot:
		out.Class = messages.ObjectSnapshot
	case driver.KindTemporary:
		out.Class = messages.ObjectTemporary
		out.ID = o.Operation + "." + o.ID
	case driver.KindForeign:
		return out, false
	}
	return out, true
}
