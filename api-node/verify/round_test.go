package verify_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
)

// place is a bucket with one node that serves backends local, which keeps data, and fake, which does not.
type place struct {
	t    *testing.T
	srv  *natstest.Server
	conn *nats.Conn
	*verify.Verifier
}

const timeout = time.Second

func newPlace(t *testing.T) *place {
	t.Helper()
	srv := natstest.Start(t)
	store, err := kvtx.Ensure(t.Context(), srv.JetStream(t), kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	_, err = store.Update(t.Context(), nil, func(_ kvtx.Snapshot, tx *kvtx.Tx) error {
		tx.Put(records.NodeKey("n1"), records.Encode(records.Node{Name: "n1", ID: "id-n1", Backends: []string{"local", "fake"}}), 0)
		tx.Put(records.NodeKey("n2"), records.Encode(records.Node{Name: "n2", ID: "id-n2", Backends: []string{"fake"}}), 0)
		tx.Put(records.BackendKey("local"), records.Encode(records.Backend{
			Name: "local", Kind: "file", Fencing: "node", Node: "id-n1", NodeName: "n1", KeepsData: true, Identity: "storage",
		}), 0)
		tx.Put(records.BackendKey("fake"), records.Encode(records.Backend{Name: "fake", Kind: "null", Fencing: "store"}), 0)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	conn := srv.Conn(t)
	return &place{t, srv, conn, verify.New(store, &verify.Nodes{Conn: conn, Timeout: timeout})}
}

// says answers questions to node n1, on the subject of the node or of one of its processes, as its processes do.
func (p *place) says(subject string, answer any) *atomic.Int64 {
	p.t.Helper()
	var asked atomic.Int64
	conn := p.srv.Conn(p.t)
	_, err := conn.Subscribe(subject, func(m *nats.Msg) {
		asked.Add(1)
		if answer != nil {
			_ = m.Respond(messages.Encode(answer))
		}
	})
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return &asked
}

func (p *place) runs(processes ...string) {
	p.t.Helper()
	p.says(messages.NodeSubject("n1", messages.NodeVerbProcesses), messages.Processes{V: 1, Processes: processes})
}

func (p *place) lists(process string, answer any) *atomic.Int64 {
	p.t.Helper()
	return p.says(messages.ProcessSubject("n1", process, messages.NodeVerbList), answer)
}

// finds fails unless verify finds exactly the differences, each with its words.
func (p *place) finds(want ...string) {
	p.t.Helper()
	r, err := p.Verify(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	ok := len(r.Differences) == len(want) && r.Clean == (len(want) == 0)
	for i := range want {
		ok = ok && strings.Contains(r.Differences[i].Kind+" "+r.Differences[i].Subject+" "+r.Differences[i].Text, want[i])
	}
	if !ok {
		p.t.Errorf("verify found %+v\nwant %q", r, want)
	}
}

var (
	empty  = messages.Objects{V: 1, Identity: "storage"}
	orphan = messages.Objects{V: 1, Identity: "storage", Objects: []messages.Object{{Class: messages.ObjectVolume, ID: "x", Bytes: 1}}}
)

func TestEveryProcessIsAskedWhatItFinds(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.runs("p1", "p2", "p3")
	p.lists("p1", empty)
	p.lists("p2", orphan)
	p.lists("p3", messages.Objects{V: 1, Error: messages.Errorf(messages.CodeNotFound, "p3 does not serve local")})
	p.finds("backend local: volume x orphan: there is no such volume in the records (so process p2 finds, and others do not")
}

func TestProcessesThatAgreeAreClean(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.runs("p1", "p2")
	p.lists("p1", empty)
	p.lists("p2", empty)
	p.finds()
}

func TestAProcessThatDoesNotAnswerIsNotClean(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.runs("p1", "hangs", "lost")
	p.lists("p1", empty)
	asked := p.lists("hangs", nil)
	p.finds("node n1 its process hangs runs and gives no list: no answer within 1s", "node n1 its process lost runs and gives no list: no answer: nobody listens")
	if n := asked.Load(); n != 1 {
		t.Errorf("a process that hangs was asked %d times, want once: each costs the whole wait", n)
	}
}

func TestANodeThatDoesNotAnswerIsNotClean(t *testing.T) {
	t.Parallel()
	newPlace(t).finds("backend local no process of a volume node has listed it: nothing stands on it: if it is not wanted any more, scoria backend forget local", "node n1 none of its processes says which ones run")
}

func TestAnotherIdentityIsNotClean(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.runs("p1", "p2")
	p.lists("p1", empty)
	p.lists("p2", messages.Objects{V: 1, Identity: "elsewhere"})
	p.finds(`backend local process p2 of node n1 serves it from a storage with identity "elsewhere", the record says "storage"`)
}

func TestAProcessThatCannotListIsNotClean(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.runs("p1", "p2")
	p.lists("p1", empty)
	p.lists("p2", messages.Objects{V: 1, Error: messages.Errorf(messages.CodeInternal, "the directory is not the one that was opened")})
	p.finds("backend local process p2 of node n1 cannot list it: the directory is not the one that was opened")
}
