package volumenode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
)

const (
	// askLimit is how long the processes of the node that run are waited for; those that hang do not answer.
	askLimit = time.Second
	// askTimes is how often they are asked: one that answers may end before its file is looked at.
	askTimes = 3
)

// checkOneMachine refuses a state directory while processes of its node run that do not hold their files in it: it is a copy, as in
// the clone of a machine, or lies on a network file system that keeps each machine's locks apart. Those processes would look ended
// from here, and their operations would be taken over while they go on.
func (n *Node) checkOneMachine(ctx context.Context) error {
	e, err := n.deps.Store.Get(ctx, records.NodeKey(n.cfg.Name))
	if err != nil || !e.Exists {
		return err
	}
	if r, err := records.Decode[records.Node](e.Value); err != nil || r.ID != n.id {
		return err // another node has the name: that is refused where it is registered
	}
	var elsewhere []string
	for range askTimes {
		there, err := n.askProcesses(ctx)
		if err != nil {
			return err
		}
		here, err := n.member.Running()
		if err != nil {
			return err
		}
		elsewhere = slices.DeleteFunc(there, func(p string) bool { return slices.Contains(here, p) })
		if len(elsewhere) == 0 {
			return nil
		}
	}
	return &SettingError{Name: "state", Value: n.cfg.StateDir, Want: fmt.Sprintf("node %s runs already, not from this directory (process %s): the directory is a copy, "+
		"or shared with another machine by a network file system. A node is on one machine: end the other one, or start here with an "+
		"empty state directory, another name, and backends of its own", n.cfg.Name, strings.Join(elsewhere, ", "))}
}

// askProcesses returns which processes of the node run, as one of them says; none if none answers.
func (n *Node) askProcesses(ctx context.Context) ([]string, error) {
	limit, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	m, err := n.deps.Store.Conn().RequestWithContext(limit, messages.NodeSubject(n.cfg.Name, messages.NodeVerbProcesses), nil)
	if errors.Is(err, nats.ErrNoResponders) || err != nil && limit.Err() != nil && ctx.Err() == nil {
		return nil, nil
	}
	var out messages.Processes
	if err == nil {
		err = messages.Decode(m.Data, &out)
	}
	if err == nil && out.Error != nil {
		err = out.Error
	}
	if err != nil {
		return nil, fmt.Errorf("which processes of node %s run: %w", n.cfg.Name, err)
	}
	return out.Processes, nil
}
