package intake

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/messages/block"
)

// delivery is one message of a dispatch subject.
type delivery struct {
	msg       jetstream.Msg
	backend   string
	operation string
	n         uint64 // dispatch number
	sequence  uint64 // in the stream
	tries     uint64 // deliveries of this message so far
	age       time.Duration
}

// parse reads a message of op.<bucket>.req.<backend>.<operation>.<n>; prefix is all before the operation.
func parse(msg jetstream.Msg, backend, prefix string) (delivery, error) {
	d := delivery{msg: msg, backend: backend}
	meta, err := msg.Metadata()
	if err != nil {
		return d, err
	}
	d.sequence, d.tries, d.age = meta.Sequence.Stream, meta.NumDelivered, time.Since(meta.Timestamp)
	rest, ok := strings.CutPrefix(msg.Subject(), prefix)
	id, number, more := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(number, 10, 64)
	if !ok || !more || err != nil || block.CheckToken(id) != nil {
		return d, fmt.Errorf("subject %q is not %s<operation>.<number>", msg.Subject(), prefix)
	}
	d.operation, d.n = id, n
	return d, nil
}

// verdict is what becomes of a delivery.
type verdict uint8

const (
	leave verdict = iota // nothing is said: the redelivery timer decides
	acknowledge
	giveBack  // offered to others again, after the delay
	terminate // never again
)

// outcome is a verdict with its reason.
type outcome struct {
	verdict verdict
	delay   time.Duration
	// upTo: deliveries with a higher dispatch number tell of something newer and are looked at afresh.
	upTo   uint64
	kind   EventKind
	reason string
}

// Error makes an outcome an error, so that a function that stages can refuse with it.
func (o *outcome) Error() string { return o.reason }

// every applies to deliveries of all numbers.
const every = math.MaxUint64

func done(upTo uint64, kind EventKind, reason string) *outcome {
	return &outcome{verdict: acknowledge, upTo: upTo, kind: kind, reason: reason}
}

func later(delay time.Duration, kind EventKind, reason string) *outcome {
	return &outcome{verdict: giveBack, delay: delay, upTo: every, kind: kind, reason: reason}
}

// prefix delays a delivery whose commit is not seen whole, the longer the older it is.
func (i *Intake) prefix(d delivery, reason string) *outcome {
	if d.age > i.cfg.PrefixLimit {
		return &outcome{verdict: terminate, upTo: every, kind: Terminated, reason: reason}
	}
	return later(min(max(d.age/2, 100*time.Millisecond), i.cfg.PrefixLimit/8, 15*time.Second), Delayed, reason)
}

// settle tells the server what becomes of a delivery. Lost answers are harmless: it is delivered again and found done.
func (i *Intake) settle(q *queue, d delivery, o *outcome) {
	v, delay := o.verdict, o.delay
	if d.n > o.upTo {
		v, delay = giveBack, 0
	}
	var err error
	switch v {
	case leave:
	case acknowledge:
		err = d.msg.Ack()
		q.purgeable.Add(1)
	case giveBack:
		if delay > 0 {
			err = d.msg.NakWithDelay(delay)
		} else {
			err = d.msg.Nak()
		}
	case terminate:
		err = d.msg.TermWithReason(o.reason)
		q.purgeable.Add(1)
		i.log.Error("dispatch terminated: it never got an operation", "operation", d.operation, "backend", d.backend,
			"subject", d.msg.Subject(), "error", o.reason)
	}
	if err != nil {
		i.log.Debug("delivery not settled, it comes again", "operation", d.operation, "error", err)
	}
	i.observe(Event{Kind: o.kind, Backend: d.backend, Operation: d.operation, Reason: o.reason})
}
