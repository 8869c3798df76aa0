// Package kvtx changes several keys of one JetStream stream together or not at all.
//
// One stream carries a KV bucket and the dispatch messages that belong to it, so that records and the
// message that starts work on them are one commit. NATS is all it needs: no other service, no session.
//
// The nouns:
//
//   - Store: one stream, its bucket and its dispatch subjects. [Ensure] makes the stream, [Open] only
//     verifies it.
//   - Entry: the value of one key with its revision, which is the sequence of its message in the stream.
//   - Tx: staged writes, deletes, checks and publishes, each with the revision that it expects.
//   - commit: a Tx that was accepted as a whole. [Store.Commit] takes fixed values, [Store.Update] takes a
//     function that reads a snapshot and stages, and is run again when what it read has changed.
//
// Invariants:
//
//   - All or none: no reader of the leader ever sees a part of a commit that was acknowledged, and none of
//     a commit that was refused. (Consumers and watchers may see a prefix for a moment: publishes stand last.)
//   - Nothing is answered before it is durable in the stream.
//   - A commit whose answer is lost is sent again unchanged until it is acknowledged or refused; then it is
//     decided whether the lost copy applied, by what is on the server's disk. No late copy can apply once this was decided.
//   - An error that a function returns is decided on entries that were read from the leader after the call
//     began, or that commits of this process wrote meanwhile; never on a write that was not committed.
//   - No function runs once its call has returned.
//   - A decision is only as safe as its expectations: what a function read and neither wrote nor checked may
//     have changed before its commit.
//
// What it does not do: locks (package kvlock), history (one message per key is kept), transactions over two
// streams, reads that are consistent over several keys without a commit that checks them.
//
// How commits are made: one group of commits is in flight, and those that come meanwhile wait and are the next one. Functions of a group run one
// after another, each on what the ones before it have staged; writes of one key become one message. A group is one atomic batch, or, if
// it is a few commits of one message each, as many plain writes side by side: a lone commit of one message is one plain write.
//
// What is under way is bounded, by number and size: beyond, a call is refused with [ErrBusy] at once, what begins something ([Yields])
// before what ends something. A call ends with its context wherever it is.
//
// Keys that begin with rcpt. (receipts, one for each open store), chk. (carriers of checks) and bare. (benchmarks) are the package's own; they go
// by themselves or with [Bare.Close].
//
// The client needs these permissions: publish to the bucket's subjects ($KV.<bucket>.>), to the dispatch
// subjects (op.<bucket>.>) and to $JS.API.STREAM.INFO, $JS.API.STREAM.MSG.GET, $JS.API.CONSUMER.* of the
// stream (for [Ensure] $JS.API.STREAM.CREATE too); subscribe to its inbox.
package kvtx

import (
	"fmt"
	"strings"
	"time"
)

// Limits of one commit. The server would take 1,000 messages; what is larger than this is refused before it is sent.
const (
	// MaxMessages is the largest number of messages of one commit: writes, checks and publishes.
	// The receipt of its batch is the 500th.
	MaxMessages = batchMessages - 1
	// MaxBytes is the largest size of one commit, all messages with subjects and headers.
	MaxBytes = 4 << 20
	// MinMarkerTTL is the shortest life of a delete marker: longer than any copy of a message can be in flight.
	MinMarkerTTL = time.Hour

	batchMessages = 500
)

// Revision is the stream sequence of the message that holds a key's entry. It rises over deletes.
// A revision read from the [Snapshot] of an Update is good for expectations only: never store it
// in a value, it may be a placeholder for a write that is not committed yet (see [Revision.Pending]).
type Revision uint64

// pendingBit marks placeholders: revisions of writes of the group that is being built. Sequences never get there.
const pendingBit Revision = 1 << 63

// Pending says that the revision is a placeholder inside an [Store.Update] function.
func (r Revision) Pending() bool { return r&pendingBit != 0 }

// Entry is the current state of one key.
type Entry struct {
	Key   string
	Value []byte // Not to be modified: it may be shared with other readers.
	// Revision is 0 if there is no message for the key at all, and the marker's if the key was deleted.
	Revision Revision
	Exists   bool
	// Time is when the server stored the entry; for an entry that this process wrote itself and has not read
	// again, the local time of the acknowledgement.
	Time time.Time
	// TTL is the life that the entry was written with, counted from Time; 0 is for ever.
	TTL time.Duration

	// replaced is the revision that the writer expected, kept by the server in the message's header.
	// replacedKnown is false for entries of foreign writers.
	replaced      Revision
	replacedKnown bool
	writer        string
}

// Snapshot is what an [Store.Update] function reads. It is valid only while the function runs.
type Snapshot interface {
	// Get returns the entry of the key, with what the function itself has staged so far; then the
	// revision stays the one to expect. That a key is absent is no error: Exists is false.
	// An error must end the function: it is returned by the function as it is, or wrapped.
	Get(key string) (Entry, error)
}

// Result says which revisions a commit wrote.
type Result struct {
	written []write
	last    Revision
}

type write struct {
	key string
	rev Revision
}

// Revision returns the revision of a key that the commit wrote, else 0. Writes of one key by commits that were
// made together are one message: they have the same revision.
func (r Result) Revision(key string) Revision {
	for _, w := range r.written {
		if w.key == key {
			return w.rev
		}
	}
	return 0
}

// Last returns the highest revision that the commit wrote to a key; 0 if it wrote none.
func (r Result) Last() Revision { return r.last }

func (r *Result) add(key string, rev Revision) {
	r.written = append(r.written, write{key, rev})
	r.last = max(r.last, rev)
}

// ValidKey says whether key can be a key of the bucket: tokens of letters, digits and -_=/ separated by dots.
func ValidKey(key string) bool {
	if key == "" || len(key) > 512 || key[0] == '.' || key[len(key)-1] == '.' {
		return false
	}
	for i := 0; i < len(key); i++ {
		switch c := key[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '=', c == '/':
		case c == '.' && key[i-1] != '.':
		default:
			return false
		}
	}
	return true
}

// validPattern says whether pattern can be a filter on keys: as a key, with the wildcards * and a last >.
func validPattern(pattern string) bool {
	tokens := strings.Split(pattern, ".")
	for i, t := range tokens {
		switch {
		case t == "*":
		case t == ">" && i == len(tokens)-1:
		case !ValidKey(t):
			return false
		}
	}
	return true
}

func checkKey(key string) error {
	if !ValidKey(key) {
		return fmt.Errorf("%w: key %q: tokens of letters, digits and -_=/ separated by dots", ErrInvalid, key)
	}
	return nil
}
