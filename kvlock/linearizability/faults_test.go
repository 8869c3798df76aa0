package linearizability

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// fault is done to the servers while calls are in flight. It returns when the servers are whole again.
type fault struct {
	name string
	do   func(t *testing.T, w *world)
}

// progress is how many calls each workload must end after a fault, before the next one.
const progress = 15

// faults are those that fit: leaders change on three servers only.
func (w *world) faults() []fault {
	all := []fault{{"kill -9", kill}, {"stop", stop}, {"lost answers", loseAnswers}}
	if len(w.servers) > 1 {
		all = append(all, fault{"the leader steps down", stepDown})
	}
	return all
}

// disturb does each fault in each round, in any order.
func (w *world) disturb(t *testing.T, rounds int) {
	w.goOn(t, "before the first fault")
	for range rounds {
		all := w.faults()
		w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, f := range all {
			begin := time.Now()
			f.do(t, w)
			w.goOn(t, "after "+f.name)
			t.Logf("%s: %.1fs", f.name, time.Since(begin).Seconds())
		}
	}
}

// goOn waits until every workload goes on.
func (w *world) goOn(t *testing.T, when string) {
	t.Helper()
	from := make([]int64, len(w.loads))
	for i, l := range w.loads {
		from[i] = l.rec.Ended()
	}
	for i, l := range w.loads {
		w.until(t, l.name+" goes on "+when, func() bool { return l.rec.Ended() >= from[i]+progress })
	}
}

// inFlight waits until calls are in flight.
func (w *world) inFlight(t *testing.T) {
	t.Helper()
	w.until(t, "calls are in flight", func() bool {
		return slices.ContainsFunc(w.loads, func(l *load) bool { return l.rec.Pending() > 0 })
	})
}

// victim is the stream's leader, or another one of three sometimes.
func (w *world) victim(t *testing.T) (s *server, leads bool) {
	t.Helper()
	leader := w.leader(t)
	if len(w.servers) > 1 && w.faulted[leader] && w.rng.IntN(3) == 0 {
		other := (slices.Index(w.servers, leader) + 1) % len(w.servers)
		return w.servers[other], false
	}
	w.faulted[leader] = true
	return leader, true
}

// kill ends a server as kill -9 does, and starts it again.
func kill(t *testing.T, w *world) {
	s, leads := w.victim(t)
	w.inFlight(t)
	s.kill()
	if len(w.servers) > 1 {
		if leads {
			w.succeeded(t, s)
		}
		w.goOn(t, "without "+s.Name)
	}
	s.start(t)
	w.whole(t)
}

// stop stops a server with calls in flight, until some of them were not answered in time; of three, until another one leads.
func stop(t *testing.T, w *world) {
	s, leads := w.victim(t)
	w.inFlight(t)
	before := w.unanswered.Load()
	s.signal(t, syscall.SIGSTOP)
	w.until(t, s.Name+" is stopped", func() bool { return s.state() == 'T' })
	w.until(t, "a call that was in flight is not answered", func() bool { return w.unanswered.Load() > before })
	if len(w.servers) > 1 {
		if leads {
			w.succeeded(t, s)
		}
		w.goOn(t, "while "+s.Name+" is stopped")
	}
	if s.state() != 'T' {
		t.Errorf("%s is in state %c, want T: somebody let it go on", s.Name, s.state())
	}
	s.signal(t, syscall.SIGCONT)
	w.whole(t)
}

// loseAnswers cuts connections after commits of theirs were made, before the answer is there. One may have broken by itself.
func loseAnswers(t *testing.T, w *world) {
	lost := func() (n int64) {
		for _, s := range w.servers {
			n += s.gate.lost.Load()
		}
		return n
	}
	before := lost()
	for _, s := range w.servers {
		s.gate.lose()
	}
	w.until(t, "answers to commits are lost", func() bool { return lost() >= before+processes-1 })
}

// stepDown makes the stream's leader give that up, with calls in flight.
func stepDown(t *testing.T, w *world) {
	old := w.leader(t)
	w.inFlight(t)
	if _, err := w.admin.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN.KV_"+bucket, nil, 10*time.Second); err != nil {
		t.Fatalf("step down: %v", err)
	}
	w.succeeded(t, old)
}

// succeeded waits until another server leads the stream.
func (w *world) succeeded(t *testing.T, old *server) {
	t.Helper()
	w.until(t, "another server than "+old.Name+" leads", func() bool {
		info := w.info(t)
		return info != nil && info.Cluster.Leader != "" && info.Cluster.Leader != old.Name
	})
	w.changes++
}

// whole waits until all servers have everything.
func (w *world) whole(t *testing.T) {
	t.Helper()
	w.until(t, "the servers are whole", func() bool {
		info := w.info(t)
		if info == nil || len(w.servers) == 1 {
			return info != nil
		}
		return info.Cluster.Leader != "" && len(info.Cluster.Replicas) == 2 &&
			!slices.ContainsFunc(info.Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return p.Offline || !p.Current })
	})
}

// leader is the server that leads the stream.
func (w *world) leader(t *testing.T) (leader *server) {
	t.Helper()
	w.until(t, "the stream has a leader", func() bool {
		info := w.info(t)
		for _, s := range w.servers {
			if info != nil && (len(w.servers) == 1 || info.Cluster.Leader == s.Name) {
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}
