package kvlock

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Record is the owner record of one operation, decoded.
type Record struct {
	Owner  string
	Claims []Claim // normalized; kept after the end, for history
	Phase  Phase
	// Epoch counts the take-overs; a break counts as one.
	Epoch uint64
	// Position counts the saves of all workers: the journal's position.
	Position uint64
	// Dispatch is the number of the last message that told workers of the operation; a number is never used twice.
	Dispatch uint64
	Worker   string // who took the operation over last
	// TakenOver counts the take-overs from another worker: neither the first one, nor those by which a worker goes on itself.
	TakenOver uint64
	Token     string // of the delivery that it was taken over with
	// FenceRev is the revision of the write that began the epoch. That write cannot know its own revision, so it says 0,
	// and 0 is read as the entry's own revision; every later write of the record carries the number.
	FenceRev uint64
	Era      uint64    // of the stream when that write was made
	Since    time.Time // the record was written first
	Granted  time.Time // it got its claims, if it waited for them; zero while it waits, and if it never waited
	// DispatchTo is the subject, without the number, under which workers are told of it when it is granted; see Wait.
	DispatchTo string
	Adopted    time.Time // the last take-over; zero before the first
	Deadline   time.Time // until when a queued operation waits; zero: for as long as it takes
	Ended      time.Time // the end that removed its lock entries; zero while it is live
	Cancel     *Cancel   // a wish to end early; nil if nobody asked
	Audit      []Audit   // what operators did to it, oldest first
	Payload    []byte    // the caller's own
	Revision   kvtx.Revision
}

// Cancel is a wish that an operation ends early. Its worker decides what comes of it.
type Cancel struct {
	By string
	At time.Time
}

// Audit is what an operator did to an operation against its course.
type Audit struct {
	Action string // "break" or "resume"
	Reason string
	At     time.Time
	Phase  Phase  // it was in
	Epoch  uint64 // it had
	Worker string // that drove it
}

// maxAudit bounds the audit part of a record; the oldest entries go first.
const maxAudit = 16

// OwnerKey is the key of an operation's owner record.
func OwnerKey(owner string) string { return ownerPrefix + owner }

// Live says whether the operation has not ended, so that its lock entries are valid.
func (r Record) Live() bool { return r.Ended.IsZero() }

// Fence is what the epoch's worker shows to the resources that it writes.
func (r Record) Fence() Fence { return Fence{Era: r.Era, Rev: r.FenceRev} }

type ownerFields struct {
	Owner    string        `msgpack:"id"`
	Claims   []claimFields `msgpack:"claims"`
	Phase    string        `msgpack:"phase"`
	Epoch    uint64        `msgpack:"epoch"`
	Position uint64        `msgpack:"pos"`
	Dispatch uint64        `msgpack:"dispatch"`
	Worker   string        `msgpack:"worker,omitempty"`
	Over     uint64        `msgpack:"over,omitempty"`
	Token    string        `msgpack:"token,omitempty"`
	FenceRev uint64        `msgpack:"fence,omitempty"`
	Era      uint64        `msgpack:"era"`
	Since    int64         `msgpack:"since"`
	Granted  int64         `msgpack:"granted,omitempty"`
	To       string        `msgpack:"to,omitempty"`
	Adopted  int64         `msgpack:"adopted,omitempty"`
	Deadline int64         `msgpack:"deadline,omitempty"`
	Ended    int64         `msgpack:"ended,omitempty"`
	Cancel   *cancelFields `msgpack:"cancel,omitempty"`
	Audit    []auditFields `msgpack:"audit,omitempty"`
	Payload  []byte        `msgpack:"payload"`
}

type claimFields struct {
	Key  string `msgpack:"k"`
	Mode uint8  `msgpack:"m"`
}

func encodeClaims(claims []Claim) []claimFields {
	f := make([]claimFields, len(claims))
	for i, c := range claims {
		f[i] = claimFields{Key: c.Key, Mode: uint8(c.Mode)}
	}
	return f
}

func decodeClaims(f []claimFields) []Claim {
	claims := make([]Claim, len(f))
	for i, c := range f {
		claims[i] = Claim{Key: c.Key, Mode: Mode(c.Mode)}
	}
	return claims
}

type cancelFields struct {
	By string `msgpack:"by"`
	At int64  `msgpack:"at"`
}

type auditFields struct {
	Action string `msgpack:"action"`
	Reason string `msgpack:"reason"`
	At     int64  `msgpack:"at"`
	Phase  string `msgpack:"phase"`
	Epoch  uint64 `msgpack:"epoch"`
	Worker string `msgpack:"worker,omitempty"`
}

// DecodeRecord reads an owner record. Errors: ErrNotFound for an absent entry; ErrNewer and ErrBroken
// with the owner alone.
func DecodeRecord(e kvtx.Entry) (Record, error) {
	if !e.Exists {
		return Record{}, fmt.Errorf("%w: %s", ErrNotFound, e.Key)
	}
	unreadable := Record{Owner: strings.TrimPrefix(e.Key, ownerPrefix), Revision: e.Revision}
	var f ownerFields
	if err := decode(kindOwner, e.Value, &f); err != nil {
		return unreadable, fmt.Errorf("%s: %w", e.Key, err)
	}
	if e.Key != OwnerKey(f.Owner) {
		return unreadable, fmt.Errorf("%w: %s holds the record of operation %q", ErrBroken, e.Key, f.Owner)
	}
	phase, ok := parsePhase(f.Phase)
	if !ok {
		return unreadable, fmt.Errorf("%w: %s: unknown phase %.40q", ErrBroken, e.Key, f.Phase)
	}
	r := Record{
		Owner: f.Owner, Claims: decodeClaims(f.Claims), Phase: phase, Epoch: f.Epoch, Position: f.Position, Dispatch: f.Dispatch,
		Worker: f.Worker, TakenOver: f.Over, Token: f.Token, FenceRev: f.FenceRev, Era: f.Era,
		Granted: fromMillis(f.Granted), DispatchTo: f.To, Since: fromMillis(f.Since), Adopted: fromMillis(f.Adopted), Deadline: fromMillis(f.Deadline), Ended: fromMillis(f.Ended),
		Payload: f.Payload, Revision: e.Revision,
	}
	if r.FenceRev == 0 && !e.Revision.Pending() { // a pending write becomes one message with ours: its revision, unknown yet
		r.FenceRev = uint64(e.Revision)
	}
	if f.Cancel != nil {
		r.Cancel = &Cancel{By: f.Cancel.By, At: fromMillis(f.Cancel.At)}
	}
	for _, c := range r.Claims {
		if c.Mode != ModeShared && c.Mode != ModeExclusive {
			return unreadable, fmt.Errorf("%w: %s: claim of %q has unknown mode %d", ErrBroken, e.Key, c.Key, c.Mode)
		}
	}
	for _, a := range f.Audit {
		p, _ := parsePhase(a.Phase) // decides nothing; one that is unknown is shown as such
		r.Audit = append(r.Audit, Audit{
			Action: a.Action, Reason: a.Reason, At: fromMillis(a.At), Phase: p, Epoch: a.Epoch, Worker: a.Worker,
		})
	}
	return r, nil
}

// encode returns the record's value. Errors: ErrTooLarge.
func (r *Record) encode() ([]byte, error) {
	f := ownerFields{
		Owner: r.Owner, Claims: encodeClaims(r.Claims), Phase: r.Phase.String(),
		Epoch: r.Epoch, Position: r.Position, Dispatch: r.Dispatch,
		Worker: r.Worker, Over: r.TakenOver, Token: r.Token, FenceRev: r.FenceRev, Era: r.Era,
		Granted: toMillis(r.Granted), To: r.DispatchTo, Since: toMillis(r.Since), Adopted: toMillis(r.Adopted), Deadline: toMillis(r.Deadline), Ended: toMillis(r.Ended),
		Payload: r.Payload,
	}
	if r.Cancel != nil {
		f.Cancel = &cancelFields{By: r.Cancel.By, At: toMillis(r.Cancel.At)}
	}
	for _, a := range r.Audit {
		f.Audit = append(f.Audit, auditFields{
			Action: a.Action, Reason: a.Reason, At: toMillis(a.At), Phase: a.Phase.String(), Epoch: a.Epoch, Worker: a.Worker,
		})
	}
	value, err := encode(kindOwner, &f)
	if err != nil {
		return nil, err
	}
	if len(value) > MaxOwnerRecord {
		return nil, fmt.Errorf("%w: the record of operation %s would have %d bytes (payload %d), at most %d are allowed",
			ErrTooLarge, r.Owner, len(value), len(r.Payload), MaxOwnerRecord)
	}
	return value, nil
}

// audit appends what an operator does now.
func (r *Record) audit(action, reason string, at time.Time) {
	r.Audit = append(slices.Clone(r.Audit), Audit{
		Action: action, Reason: reason, At: at, Phase: r.Phase, Epoch: r.Epoch, Worker: r.Worker,
	})
	if n := len(r.Audit) - maxAudit; n > 0 {
		r.Audit = r.Audit[n:]
	}
}

// What others may add to a record, operators, cancels and take-overs, must always fit, or a full record could not be
// ended: so the payload is refused earlier, by this reserve. It holds maxAudit audits, a cancel, a worker and a token.
const (
	maxText     = 1024 // of a reason, with who gives it
	maxName     = 128  // of a worker, a token
	textReserve = (maxAudit + 2) * (maxText + maxName + 128)
)

func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%w: %s of %d bytes, at most %d are allowed", ErrTooLarge, what, len(s), limit)
	}
	return nil
}

// payloadRoom is the size of the largest payload beside the claims, in bytes.
func payloadRoom(claims []Claim) int {
	room := MaxOwnerRecord - textReserve
	for _, c := range claims {
		room -= len(c.Key) + 16
	}
	return room
}

// setPayload replaces the payload, unless it is nil. Errors: ErrTooLarge.
func (r *Record) setPayload(payload []byte) error {
	if payload == nil {
		return nil
	}
	if room := payloadRoom(r.Claims); len(payload) > room {
		return fmt.Errorf("%w: payload of operation %s has %d bytes, at most %d are allowed beside its %d claims",
			ErrTooLarge, r.Owner, len(payload), room, len(r.Claims))
	}
	r.Payload = payload
	return nil
}
