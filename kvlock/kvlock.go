// Package kvlock locks keys for operations, in the records of one JetStream stream.
//
// An operation claims a set of keys, each exclusively or shared, all at once and once in its life (named locks apart). Who holds a key is
// data in the bucket, not a session: there are no heartbeats, nothing expires, and a process that dies leaves its
// operations to the next worker, which takes them over with one write. Locks, the caller's own records and the message
// that starts the work can be one commit, so there is no moment in which a crash leaves a lock behind.
//
// The nouns:
//
//   - operation, owner: who holds keys: an ID that the caller chooses. A repeated request is the same owner.
//   - claim: one key wanted in one mode. See [Exclusive], [Shared].
//   - owner record: op.<owner>, a [Record]: claims, phase, epoch, position, and a payload of the caller's own, so that
//     taking over and journalling are one single-message write.
//   - lock record: lock.<key>, a [Lock]: the set of owners that hold the key, and the line of those that wait for it.
//   - line: who waits for a key, oldest first. An operation that waits stands in the line of every key that it claims, and
//     holds nothing. See [Locker.Queue], [Locker.Acquire].
//   - wake: a message that says that the line of a key may have somebody to let in. See [Locker.ServeWakes].
//   - grant: the proof that an operation holds its claims, a value: a [Grant].
//   - named lock: one more key that an operation takes while it runs, for a moment, and never waits for. See [Locker.LockNamed].
//   - epoch: counts the take-overs of one operation. fence: the [Fence] of the last one.
//
// Invariants:
//
//   - Never two exclusive holders of a key, never a reader beside a writer, in any history.
//   - A lock entry is valid exactly while its operation has not ended. The commit that ends an operation removes its
//     entries; no commit adds an entry without a live operation. An entry never becomes invalid by age.
//   - One epoch has one writer of progress: a save, an end or a release with a grant of a lower epoch, or of an older
//     position, is refused. Fences only rise from epoch to epoch.
//   - A take-over that is only intended ([Locker.Intend]) is made by its first save, in the same write. Until then its grant has no
//     fence: its worker changes nothing outside of the bucket, and looks at nothing that an earlier worker could still change.
//   - Every verb may be repeated after a lost answer: what was done is recognized by the content of the record (it
//     exists, its epoch, its token, its position), and is not done twice.
//   - A newcomer never passes an operation that waits and conflicts with it: lines are in the order of the commits, the same
//     in every line, so the oldest waiter is always next, nobody starves, and there is no deadlock.
//   - Nobody polls: the commit that makes a waiter grantable (an end, a break, a downgrade, a waiter that leaves) grants it, at
//     most [MaxGrants], or owes its key a wake that is part of that commit. The message that starts its work is part of its grant.
//   - A waiter that gives up leaves all its lines in one commit; one whose deadline has passed is ended by whoever goes
//     through its line.
//   - Taking one's own ID out touches nobody else's entry; a lock record with a line is kept.
//   - What one release wrote, the next one reads; what a newer release wrote is refused in words.
//
// The verbs of a [Locker] come twice. TryAcquire, Adopt, Save, End, Release, Cancel and Break commit by themselves. The
// same staged, such as [Locker.StageAcquire], are called inside a function of [kvtx.Store.Update] with [Locker.Keys] to
// read, together with writes of the caller's own. They are called first in the function, because the owner record
// stands first in a commit, and for one owner once. They read and stage and do nothing else: the function may run
// several times.
//
// Of a replicated stream a read may be answered by a server that led it, was deposed, and does not know it yet: up to 20 seconds after it was cut
// off (nats-server 2.15.2), or when it goes on after a stop. So no caller goes on with what was only read: a grant that a repeated TryAcquire or
// Acquire finds, and the absence of an operation that is to be released or to leave its line, are checked by a commit. What rests on reads alone
// is a refusal, such as ErrConflict or ErrNotFound, and what was only to be looked at (Record, Records, Holders, Locks, Check, and the record
// with ErrExists): it was so at a moment that may be as long ago as that, also before the call began.
//
// What it does not do: no lock knows a time limit, a session or a process; it does not know what a key means, it starts no
// goroutine, and it raises no fence at a resource: that is the caller's, who gets the number.
//
// A client needs these NATS permissions, of the bucket b: publish to $KV.b.op.>, $KV.b.lock.>, $KV.b.rcpt.>,
// $KV.b.chk.> and op.b.wake.>, and to what it stages itself, dispatches of those who wait included; publish to $JS.API.STREAM.INFO.KV_b, $JS.API.STREAM.MSG.GET.KV_b and, for
// Holdings, Locks, Records, Verify, Acquire and ServeWakes, $JS.API.CONSUMER.*.KV_b.> and $JS.API.CONSUMER.MSG.NEXT.KV_b.>;
// for ServeWakes also $JS.ACK.KV_b.kvlock-wakes.> and $JS.API.STREAM.PURGE.KV_b; subscribe to its inbox. Who only looks needs no publish to $KV. Who makes the stream (kvtx.Ensure) also publishes to
// $JS.API.STREAM.CREATE.KV_b.
package kvlock

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// DefaultRetention is how long the record of an ended operation stays: the time in which a repeated request is
// recognized.
const DefaultRetention = 24 * time.Hour

// minRetention is longer than any copy of a message can be in flight.
const minRetention = time.Hour

// EraMetadata is the key of a stream's metadata that holds its era.
const EraMetadata = "kvlock.era"

// EraOf returns the era that a stream's metadata names; 1 if it names none.
func EraOf(metadata map[string]string) (uint64, error) {
	v, ok := metadata[EraMetadata]
	if !ok {
		return 1, nil
	}
	era, err := strconv.ParseUint(v, 10, 64)
	if err != nil || era == 0 {
		return 0, fmt.Errorf("%w: stream metadata %s is %.40q, want a number from 1", ErrInvalid, EraMetadata, v)
	}
	return era, nil
}

// Locker is the verbs on one bucket. It has no state of its own; several processes use one each.
type Locker struct {
	store     *kvtx.Store
	era       uint64
	retention time.Duration
	log       *slog.Logger
	observer  Observer
	left      func(kvtx.Snapshot, *kvtx.Tx, Record) ([]byte, error)
	clock     func() time.Time
}

// Option changes what most callers leave alone.
type Option func(*Locker)

// WithEra sets the era of the fences; 1 by default. See EraOf.
func WithEra(era uint64) Option { return func(l *Locker) { l.era = era } }

// WithRetention sets how long records of ended operations stay; DefaultRetention by default, an hour at least.
func WithRetention(d time.Duration) Option {
	return func(l *Locker) { l.retention = max(d, minRetention) }
}

// WithLogger sets the log; by default there is none. Verbs are logged at Debug, breaks at Warn.
func WithLogger(log *slog.Logger) Option { return func(l *Locker) { l.log = log } }

// WithObserver sets who is told of events; by default nobody.
func WithObserver(o Observer) Option { return func(l *Locker) { l.observer = o } }

// WithLeft sets what is staged, with records of the caller's own, into every commit that ends an operation which gave up waiting, also when
// somebody else's end finds its deadline passed. It returns the final payload; nil keeps the one that is there. What it cannot read
// makes the commit fail, so it should refuse nothing. All lockers of a bucket set the same.
func WithLeft(left func(s kvtx.Snapshot, tx *kvtx.Tx, r Record) ([]byte, error)) Option {
	return func(l *Locker) { l.left = left }
}

// WithClock sets the clock of the times in records, which decide nothing; time.Now by default.
func WithClock(now func() time.Time) Option { return func(l *Locker) { l.clock = now } }

// New returns a Locker on the store, which the caller closes.
func New(store *kvtx.Store, opts ...Option) *Locker {
	l := &Locker{store: store, era: 1, retention: DefaultRetention, log: slog.New(slog.DiscardHandler), clock: time.Now}
	for _, o := range opts {
		o(l)
	}
	return l
}

// now is the time as records keep it.
func (l *Locker) now() time.Time { return fromMillis(l.clock().UnixMilli()) }

// Era is the era of the fences that the Locker gives.
func (l *Locker) Era() uint64 { return l.era }

// Keys returns the keys that the staged verbs read for the owner and its claims: the owner record and the locks.
// Without claims it is the owner record alone, which is enough for StageSave.
func (l *Locker) Keys(owner string, claims ...Claim) []string {
	keys := make([]string, 0, 1+len(claims))
	keys = append(keys, OwnerKey(owner))
	for _, c := range claims {
		keys = append(keys, LockKey(c.Key))
	}
	return keys
}

// GrantOf returns the grant of a record that was read: what its worker of this epoch holds.
func (l *Locker) GrantOf(r Record) Grant {
	return Grant{
		owner: r.Owner, claims: r.Claims, epoch: r.Epoch, position: r.Position, fence: r.Fence(), revision: r.Revision,
	}
}

// Committed returns a record that a staged verb returned as it stands after its commit.
func (l *Locker) Committed(r Record, res kvtx.Result) Record {
	if rev := res.Revision(OwnerKey(r.Owner)); rev != 0 {
		r.Revision = rev
	}
	if r.FenceRev == 0 {
		r.FenceRev = uint64(r.Revision)
	}
	return r
}
