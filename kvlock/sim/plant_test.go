package sim

import (
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// plant is a fault that no server and no resource may have: the checks must find it.
type plant uint8

const (
	noPlant       plant = iota
	noExpectation       // Now and then a lock is written although it is not as the writer expects.
	halfBatch           // Now and then a batch is applied in part.
	noWake              // A wake is not stored.
	noDispatch          // Now and then a dispatch is not stored.
	falseAnswer         // Now and then a write is acknowledged and not made.
	noFence             // The resources take any fence.
	unserved            // Now and then a wake counts as served when it is delivered.
	namedKept           // Now and then a named lock that is given back is not written.
)

func (p plant) String() string {
	return [...]string{"none", "expectations that are not held", "batches in part", "wakes that are lost", "dispatches that are lost",
		"answers that are false", "resources without a fence", "wakes that are not served", "named locks that are kept"}[p]
}

// write gives a write to the server.
func (w *world) write(msgs []*nats.Msg) *nats.Msg {
	planted := w.chance(4)
	switch p := w.plan.plant; {
	case p == noExpectation && planted:
		for _, m := range msgs {
			if strings.HasPrefix(m.Subject, lockSubject) {
				m.Header.Del(nats.ExpectedLastSubjSeqHdr)
			}
		}
	case p == halfBatch && planted && len(msgs) > 3:
		msgs = w.without(msgs, func(i int, _ *nats.Msg) bool { return i == 2 })
	case p == noWake:
		msgs = w.without(msgs, func(_ int, m *nats.Msg) bool { return strings.HasPrefix(m.Subject, postSubject+wakes) })
	case p == noDispatch && planted:
		msgs = w.without(msgs, func(_ int, m *nats.Msg) bool { return strings.HasPrefix(m.Subject, postSubject+dispatches) })
	case p == namedKept && planted:
		msgs = w.without(msgs, func(_ int, m *nats.Msg) bool { return isNamedFreed(m) })
	case p == falseAnswer && planted && len(msgs) == 1 && strings.Contains(msgs[0].Subject, ".count."):
		return &nats.Msg{Data: []byte(`{"stream":"KV_sim","seq":1000000}`)}
	}
	m := w.server.Handle(msgs...)
	w.truth.wrote(m, msgs)
	return m
}

// isNamedFreed says whether a message writes a named lock that nobody has.
func isNamedFreed(m *nats.Msg) bool {
	key, ok := strings.CutPrefix(m.Subject, lockSubject)
	if !ok || !isNamed(key) {
		return false
	}
	lock, err := kvlock.DecodeLock(kvtx.Entry{Key: kvlock.LockKey(key), Value: m.Data, Exists: m.Header.Get("KV-Operation") == ""})
	return err == nil && len(lock.Holders) == 0
}

// without leaves messages out of a batch.
func (w *world) without(msgs []*nats.Msg, out func(i int, m *nats.Msg) bool) []*nats.Msg {
	var rest []*nats.Msg
	for i, m := range msgs {
		if !out(i, m) {
			rest = append(rest, m)
		}
	}
	if len(rest) == len(msgs) || len(rest) == 0 {
		return msgs
	}
	last := rest[len(rest)-1]
	if msgs[0].Header.Get("Nats-Batch-Id") != "" {
		last.Header.Set("Nats-Batch-Commit", "1")
	}
	for i, m := range rest {
		m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
	}
	return rest
}
