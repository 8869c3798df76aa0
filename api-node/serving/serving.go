// Package serving knows which processes of volume nodes serve which backends, because it asks them.
//
// Nouns: a round is what all processes have answered at about one moment; an Answer is what it says of one backend.
//
// Invariants:
//   - Nobody is guessed to be gone: a backend is one that nobody serves only if every node that may serve it has said so, or has no process
//     with a connection.
//   - A process of an earlier release, which does not know the question, serves what it has registered.
//
// It decides nothing. A process without a connection may still run, and serve its backends again.
package serving

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
)

// Asker asks the volume nodes. Errors: verify.ErrNoAnswer, verify.ErrNobody, and what is said.
type Asker interface {
	// Processes names the running processes of a node.
	Processes(ctx context.Context, node string) ([]string, error)
	// Serving returns which backends a process of the node serves.
	Serving(ctx context.Context, node, process string) ([]messages.Serves, error)
}

// Process serves a backend.
type Process struct {
	Node    string `json:"node"`
	Process string `json:"process"`
	// Away says why the process cannot reach what the backend keeps at this moment; empty: it can.
	Away string `json:"away,omitempty"`
}

// Answer says who serves a backend.
type Answer struct {
	Processes []Process
	// Unknown says why it is not known whether others do; empty: nobody else does.
	Unknown string
}

// Nobody reports whether it is sure that no process serves the backend.
func (a Answer) Nobody() bool { return len(a.Processes) == 0 && a.Unknown == "" }

// Trouble says in words why the backend's operations do not go on, and what to do; empty: they do, as far as is known.
func (a Answer) Trouble(backend string) string {
	var away []string
	for _, p := range a.Processes {
		if p.Away == "" {
			return ""
		}
		away = append(away, fmt.Sprintf("process %s says: %s", p.Process, p.Away))
	}
	switch {
	case len(away) > 0:
		return "what backend " + backend + " keeps is away, and waited for; " + strings.Join(away, "; ")
	case a.Nobody():
		return "no process of a volume node serves backend " + backend + ": start one with --backend " + backend + "=…"
	}
	return ""
}

// Round is what all processes of some nodes have answered.
type Round struct {
	serve   map[string][]Process // by backend
	unknown []unknown
}

type unknown struct {
	node records.Node
	why  string
}

// Of says who serves the backend, of the nodes that were asked.
func (r *Round) Of(b records.Backend) Answer {
	a := Answer{Processes: r.serve[b.Name]}
	var why []string
	for _, u := range r.unknown {
		if b.MayBeServedBy(&u.node) {
			why = append(why, u.why)
		}
	}
	a.Unknown = strings.Join(why, "; ")
	return a
}

// Ask asks all processes of the nodes.
func Ask(ctx context.Context, ask Asker, nodes []records.Node) *Round {
	r := &Round{serve: map[string][]Process{}}
	var mu sync.Mutex
	var asking sync.WaitGroup
	note := func(n records.Node, process string, serves []messages.Serves, err error) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range serves {
			r.serve[s.Backend] = append(r.serve[s.Backend], Process{Node: n.Name, Process: process, Away: s.Away})
		}
		switch {
		case err != nil && process == "":
			r.unknown = append(r.unknown, unknown{n, fmt.Sprintf("node %s does not say which of its processes run: %v", n.Name, err)})
		case err != nil:
			r.unknown = append(r.unknown, unknown{n, fmt.Sprintf("process %s of node %s runs and does not say what it serves: %v", process, n.Name, err)})
		}
	}
	for _, n := range nodes {
		asking.Go(func() {
			processes, err := ask.Processes(ctx, n.Name)
			if errors.Is(err, verify.ErrNobody) {
				return
			}
			if err != nil {
				note(n, "", nil, err)
			}
			for _, p := range processes {
				asking.Go(func() {
					serves, err := ask.Serving(ctx, n.Name, p)
					if registered := n.Processes[p]; errors.Is(err, verify.ErrNobody) && len(registered) > 0 {
						err = nil
						for _, b := range registered {
							serves = append(serves, messages.Serves{Backend: b})
						}
					}
					note(n, p, serves, err)
				})
			}
		})
	}
	asking.Wait()
	for _, all := range r.serve {
		slices.SortFunc(all, func(a, b Process) int {
			return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Process, b.Process))
		})
	}
	slices.SortFunc(r.unknown, func(a, b unknown) int { return cmp.Compare(a.why, b.why) })
	return r
}

// Serving asks now and then, on behalf of all who want to know.
type Serving struct {
	ask   Asker
	nodes func() []records.Node

	asking sync.Mutex
	last   atomic.Pointer[told]
}

// told is a round, and when it was asked for.
type told struct {
	round *Round
	at    time.Time
}

// fresh is how long an answer is good for somebody who looks, lately for somebody who chooses.
const (
	fresh  = 2 * time.Second
	lately = 30 * time.Second
)

// New asks the nodes that nodes returns. ask must answer soon: whoever looks waits for it.
func New(ask Asker, nodes func() []records.Node) *Serving { return &Serving{ask: ask, nodes: nodes} }

// Now is what was answered within the last two seconds.
func (s *Serving) Now(ctx context.Context) *Round {
	if t := s.last.Load(); t.within(fresh) {
		return t.round
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	return s.now(ctx)
}

// Recent is what was answered within the last half minute. It waits for an answer if there is none, and has it asked for again if it is older than two
// seconds, so that processes that hang hold nobody up who comes often.
func (s *Serving) Recent(ctx context.Context) *Round {
	t := s.last.Load()
	if !t.within(lately) {
		return s.Now(ctx)
	}
	if !t.within(fresh) && s.asking.TryLock() {
		go func() {
			defer s.asking.Unlock()
			s.now(ctx)
		}()
	}
	return t.round
}

// now asks, unless somebody else has just done so. The caller has the lock.
func (s *Serving) now(ctx context.Context) *Round {
	t := s.last.Load()
	if !t.within(fresh) {
		t = &told{Ask(context.WithoutCancel(ctx), s.ask, s.nodes()), time.Now()} // others have the answer, too
		s.last.Store(t)
	}
	return t.round
}

func (t *told) within(d time.Duration) bool { return t != nil && time.Since(t.at) <= d }
