package kvtx

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Tx stages a commit. The zero value is ready. A Tx is for one goroutine, and for one commit.
// Mistakes in arguments are kept and returned by the commit.
//
// A key is written once in a commit: a second Put or Delete of a key replaces the first one and must expect the
// same revision.
type Tx struct {
	writes    []op
	checks    []op
	publishes []op
	applied   func(Entry) bool
	then      []func()
	err       error
}

// op is one staged message.
type op struct {
	key    string // "" for a publish.
	expect Revision
	value  []byte
	ttl    time.Duration
	del    bool

	subject string // Of a publish.
	header  nats.Header
}

// Put stages a write. The key must be at the revision expect; 0 means that it must be absent: a delete marker is
// absent too. The value must not be modified afterwards.
func (tx *Tx) Put(key string, value []byte, expect Revision) {
	tx.stage(op{key: key, value: value, expect: expect})
}

// PutTTL is Put of a value that the server removes after ttl, at least one second.
func (tx *Tx) PutTTL(key string, value []byte, expect Revision, ttl time.Duration) {
	if ttl < time.Second {
		tx.fail(fmt.Errorf("%w: time to live of %s is %v: must be at least 1s", ErrInvalid, key, ttl))
	}
	tx.stage(op{key: key, value: value, expect: expect, ttl: ttl})
}

// Delete stages a delete of a key that is at the revision expect. It leaves a marker that goes after [Config.MarkerTTL].
func (tx *Tx) Delete(key string, expect Revision) {
	if expect == 0 {
		tx.fail(fmt.Errorf("%w: delete of %s expects no revision", ErrInvalid, key))
	}
	tx.stage(op{key: key, expect: expect, del: true})
}

// Check makes the commit depend on a key that it does not write: it must be at the revision expect, 0 is
// absent. A check of a key that the commit writes too is that write's expectation.
//
// Avoid checks of keys that many commits check at the same time: on replicated streams they refuse each other.
func (tx *Tx) Check(key string, expect Revision) {
	if err := checkKey(key); err != nil {
		tx.fail(err)
		return
	}
	for _, list := range [...][]op{tx.writes, tx.checks} {
		for i := range list {
			if list[i].key == key {
				if list[i].expect != expect {
					tx.fail(fmt.Errorf("%w: %s is expected at revisions %d and %d", ErrInvalid, key, list[i].expect, expect))
				}
				return
			}
		}
	}
	tx.checks = append(tx.checks, op{key: key, expect: expect})
}

// Publish stages a message on a dispatch subject (see [Store.DispatchSubject]). Publishes come last in the commit, in their
// order. Headers that begin with "Nats-" are the server's, except Nats-TTL.
func (tx *Tx) Publish(subject string, data []byte, header nats.Header) {
	for k := range header {
		if len(k) >= 5 && strings.EqualFold(k[:5], "nats-") && k != nats.MsgTTLHdr {
			tx.fail(fmt.Errorf("%w: publish to %s has the header %s", ErrInvalid, subject, k))
		}
	}
	tx.publishes = append(tx.publishes, op{subject: subject, value: data, header: header})
}

// Prove tells how to find out whether a commit of ONE message applied whose answer was lost: applied is given the current entry
// of its key and says whether this write, or a later one that follows from it, stands there. Without it a lost answer is decided by the
// writer's mark on the entry, and a write that was replaced by another one before this could be looked at ends with [ErrInDoubt].
func (tx *Tx) Prove(applied func(Entry) bool) { tx.applied = applied }

// Then has f called once the commit is made, on the goroutine of its caller, before the call returns. It is not called for what was
// refused, staged nothing, or was left in doubt.
func (tx *Tx) Then(f func()) { tx.then = append(tx.then, f) }

// made calls what waits for the commit.
func (tx *Tx) made() {
	if tx.empty() {
		return
	}
	for _, f := range tx.then {
		f()
	}
}

// Len is the number of messages that are staged. At most [MaxMessages] fit.
func (tx *Tx) Len() int { return len(tx.writes) + len(tx.checks) + len(tx.publishes) }

// Size is roughly the number of bytes that are staged. At most [MaxBytes] fit.
func (tx *Tx) Size() int {
	n := 0
	for _, list := range [...][]op{tx.writes, tx.checks, tx.publishes} {
		for i := range list {
			n += list[i].size()
		}
	}
	return n
}

// perMessage is what subject prefix, headers and protocol add to a message, at most.
const perMessage = 320

func (o *op) size() int {
	n := perMessage + len(o.key) + len(o.subject) + len(o.value)
	for k, vs := range o.header {
		for _, v := range vs {
			n += len(k) + len(v) + 4
		}
	}
	return n
}

func (tx *Tx) stage(o op) {
	if err := checkKey(o.key); err != nil {
		tx.fail(err)
		return
	}
	for i := range tx.checks {
		if tx.checks[i].key == o.key {
			if tx.checks[i].expect != o.expect {
				tx.fail(fmt.Errorf("%w: %s is expected at revisions %d and %d", ErrInvalid, o.key, tx.checks[i].expect, o.expect))
			}
			tx.checks = append(tx.checks[:i], tx.checks[i+1:]...)
			break
		}
	}
	if w := tx.written(o.key); w != nil {
		if w.expect != o.expect {
			tx.fail(fmt.Errorf("%w: %s is expected at revisions %d and %d", ErrInvalid, o.key, w.expect, o.expect))
		}
		*w = o
		return
	}
	tx.writes = append(tx.writes, o)
}

// written returns the staged write of the key, or nil.
func (tx *Tx) written(key string) *op {
	for i := range tx.writes {
		if tx.writes[i].key == key {
			return &tx.writes[i]
		}
	}
	return nil
}

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// single says that the commit can be one revision-checked write.
func (tx *Tx) single() bool {
	return len(tx.writes) == 1 && len(tx.checks) == 0 && len(tx.publishes) == 0
}

func (tx *Tx) empty() bool { return tx.Len() == 0 }

// validate says why the transaction cannot be sent.
func (tx *Tx) validate(s *Store) error {
	dispatch, maxPayload := s.dispatch, s.maxPayload
	if tx.err != nil {
		return tx.err
	}
	if n := tx.Len(); n > MaxMessages {
		return fmt.Errorf("%w: %d messages, at most %d", ErrTooLarge, n, MaxMessages)
	}
	if n := tx.Size(); n > MaxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, MaxBytes)
	}
	for i := range tx.writes {
		if n := tx.writes[i].size(); n > maxPayload {
			return fmt.Errorf("%w: value of %s has %d bytes, a message at most %d", ErrTooLarge, tx.writes[i].key, len(tx.writes[i].value), maxPayload)
		}
	}
	for i := range tx.publishes {
		p := &tx.publishes[i]
		if rest, ok := strings.CutPrefix(p.subject, dispatch); !ok || !ValidKey(rest) {
			return fmt.Errorf("%w: subject %q: must be a literal subject below %s", ErrInvalid, p.subject, dispatch)
		}
		if n := p.size(); n > maxPayload {
			return fmt.Errorf("%w: message to %s has %d bytes, a message at most %d", ErrTooLarge, p.subject, n, maxPayload)
		}
	}
	return nil
}
