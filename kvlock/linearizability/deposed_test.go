package linearizability

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestDirectReadsAreOld is why a stream with direct reads is refused: on three servers any replica answers them, also one that has not made yet
// what was acknowledged.
func TestDirectReadsAreOld(t *testing.T) {
	threeServers(t)
	t.Parallel()
	w := &world{servers: startServers(t, 3)}
	stream := w.replicated(t, true)
	leader := w.leads(t, stream)
	js, err := jetstream.New(connectTo(t, w.servers[(slices.Index(w.servers, leader)+1)%len(w.servers)]))
	if err != nil {
		t.Fatal(err)
	}
	const most = 5_000
	for n := range most {
		ack, err := js.Publish(t.Context(), "reads.a", make([]byte, 20<<10)) // large enough for a replica to be busy with it
		if err != nil {
			t.Fatal(err)
		}
		m, err := js.Conn().Request("$JS.API.DIRECT.GET.reads.reads.a", nil, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if seq := m.Header.Get("Nats-Sequence"); seq != fmt.Sprint(ack.Sequence) {
			t.Logf("after %d writes: %d was acknowledged, %q is read", n+1, ack.Sequence, seq)
			return
		}
	}
	t.Errorf("no read was old in %d: there may be no such trap any more", most)
}

// TestALeaderThatWasDeposedAnswersReads: one that was stopped, while another one took over and wrote, goes on as the leader until it has heard of
// it, and answers what only the leader may answer. So does one that is cut off from the others, for up to 20 s (nats-server 2.15.2,
// lostQuorumInterval, lostQuorumCheck).
func TestALeaderThatWasDeposedAnswersReads(t *testing.T) {
	threeServers(t)
	t.Parallel()
	w := &world{servers: startServers(t, 3)}
	stream := w.replicated(t, false)
	const most = 10
	for range most {
		old, all := w.askAfterAStop(t, w.leads(t, stream))
		t.Logf("%d of %d answers were old", old, all)
		if old > 0 {
			return
		}
	}
	t.Errorf("no answer was old in %d rounds: there may be no such trap any more", most)
}

// replicated makes a stream on three servers.
func (w *world) replicated(t *testing.T, direct bool) (stream jetstream.Stream) {
	t.Helper()
	js := w.connect(t, false)
	w.until(t, "the stream is there", func() (made bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var err error
		stream, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: "reads", Subjects: []string{"reads.>"}, Replicas: len(w.servers), MaxMsgsPerSubject: 1, AllowDirect: direct,
		})
		return err == nil
	})
	return stream
}

// leads returns the server that leads a stream of which all have everything.
func (w *world) leads(t *testing.T, stream jetstream.Stream) (leader *server) {
	t.Helper()
	w.until(t, "the servers are whole", func() bool {
		info, err := stream.Info(t.Context())
		if err != nil || len(info.Cluster.Replicas) != 2 || slices.ContainsFunc(info.Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return p.Offline || !p.Current }) {
			return false
		}
		for _, s := range w.servers {
			if s.Name == info.Cluster.Leader {
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}

// connectTo connects to these servers and no others, and is patient with one that is stopped.
func connectTo(t *testing.T, servers ...*server) *nats.Conn {
	t.Helper()
	opts := nats.GetDefaultOptions()
	opts.IgnoreDiscoveredServers = true
	for _, s := range servers {
		opts.Servers = append(opts.Servers, "nats://"+s.addr())
	}
	nc, err := opts.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// askAfterAStop stops the leader, has a record changed without it, asks it for the record, and lets it go on. It says how many of the answers
// were old.
func (w *world) askAfterAStop(t *testing.T, leader *server) (old, all int) {
	t.Helper()
	asks := connectTo(t, leader)
	js, err := jetstream.New(connectTo(t, slices.DeleteFunc(slices.Clone(w.servers), func(s *server) bool { return s == leader })...))
	if err != nil {
		t.Fatal(err)
	}
	write := func(value string) (seq uint64) {
		w.until(t, "it is written: "+value, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // ten seconds after its stop the leader knows
			defer cancel()
			ack, err := js.Publish(ctx, "reads.a", []byte(value))
			if err == nil {
				seq = ack.Sequence
			}
			return err == nil
		})
		return seq
	}
	before := write("before")
	leader.signal(t, syscall.SIGSTOP)
	w.until(t, leader.Name+" is stopped", func() bool { return leader.state() == 'T' })
	write("after")

	const questions = 100
	answers := make(chan *nats.Msg, questions)
	inbox := asks.NewInbox()
	if _, err := asks.ChanSubscribe(inbox, answers); err != nil {
		t.Fatal(err)
	}
	for range questions {
		if err := asks.PublishRequest("$JS.API.STREAM.MSG.GET.reads", inbox, []byte(`{"last_by_subj":"reads.a"}`)); err != nil {
			t.Fatal(err)
		}
	}
	_ = asks.FlushTimeout(50 * time.Millisecond) // they are on their way; nobody answers yet
	leader.signal(t, syscall.SIGCONT)
	for range questions {
		select {
		case m := <-answers:
			var got struct{ Message struct{ Seq uint64 } }
			if err := json.Unmarshal(m.Data, &got); err == nil && got.Message.Seq > 0 {
				all++
				if got.Message.Seq <= before {
					old++
				}
			}
		case <-time.After(2 * time.Second): // who knows that it does not lead does not answer
			return old, all
		}
	}
	return old, all
}
