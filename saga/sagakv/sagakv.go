// Package sagakv keeps the journal of saga runs in kvlock's owner records, so that taking a run over and
// journalling a step are one message each, and the end of a run, the release of its locks and the records that
// it changes are one commit.
//
// # Nouns
//
// A [Payload] is what an owner record carries: the application's request, opaque here, and the run's record.
// A [Log] is one worker's grant of one operation as a [saga.Log]: [Attach] makes it from what kvlock.Adopt
// returned. A [Write] is a function that stages record changes into the commit of a journal write. A [Journal]
// is the whole as a [saga.Journal], for programs that have nothing else around it.
//
// # Invariants
//
//   - One entry is one commit: the owner record, the staged writes and, at an end, the released locks happen
//     together or not at all.
//   - An entry is written once: a lost answer is decided by the epoch and the position in the record.
//   - Who was overtaken, broken or ended elsewhere writes nothing: the answer is saga.ErrFenced.
//   - A cancel request that comes in between is kept, and found in the head after the next write.
//   - If a staged write refuses, nothing is committed, and its error becomes the result of the step.
//   - The request in the payload is never changed by a run.
//
// # What it does not do
//
// It dispatches nothing and raises no fence at a backend. It imports neither nats-server nor a metrics library.
package sagakv

import (
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/saga"
)

// Write stages record changes into the commit of a journal write. It reads what it decides on from the
// snapshot, so that records shared with others (pools, credits) fold in a group commit. It may be called
// several times, and has no effects of its own. An error refuses: nothing is committed, and the step fails
// with it, for good if it is saga.Permanent.
type Write func(s kvtx.Snapshot, tx *kvtx.Tx) error

// Keyed is a Write that says which keys it reads, so that they are read in parallel and in advance; a key that
// is not named costs a run of the function and a round trip, unless this process has it at hand.
type Keyed struct {
	Keys  []string
	Write Write
}

// payloadVersion is the format that this release writes. Fields are added, never renamed, reused or retyped.
const payloadVersion = 1

// Payload is what an owner record carries.
type Payload struct {
	V       int    `msgpack:"v"`
	Request []byte `msgpack:"request"`       // the application's own
	Run     []byte `msgpack:"run,omitempty"` // of package saga; nil: no step has been journalled
}

// NewPayload makes the payload of an operation that is being submitted.
func NewPayload(request []byte) []byte {
	b, err := Payload{Request: request}.encode()
	if err != nil {
		panic(err) // two byte slices and a number: msgpack can write them
	}
	return b
}

// DecodePayload reads the payload of an owner record. saga.ErrFormat.
func DecodePayload(b []byte) (Payload, error) {
	var p Payload
	if err := msgpack.Unmarshal(b, &p); err != nil {
		return Payload{}, fmt.Errorf("%w: payload: %s", saga.ErrFormat, err.Error())
	}
	switch {
	case p.V > payloadVersion:
		return Payload{}, fmt.Errorf("%w: payload format %d is of a newer release, this one reads up to %d", saga.ErrFormat, p.V, payloadVersion)
	case p.V < 1:
		return Payload{}, fmt.Errorf("%w: payload format %d", saga.ErrFormat, p.V)
	}
	return p, nil
}

func (p Payload) encode() ([]byte, error) {
	p.V = payloadVersion
	return msgpack.Marshal(p)
}

// Status reads how the run stands; rec is the owner record that the payload is from. saga.ErrFormat.
func (p Payload) Status(rec kvlock.Record) (saga.Status, error) { return headOf(rec, p).Status() }

// StatusOf reads how the run of an owner record stands, with the cancel request that the record carries. saga.ErrFormat.
func StatusOf(rec kvlock.Record) (saga.Status, error) {
	p, err := DecodePayload(rec.Payload)
	if err != nil {
		return saga.Status{}, err
	}
	return p.Status(rec)
}

func headOf(rec kvlock.Record, p Payload) saga.Head {
	h := saga.Head{Record: p.Run, Epoch: rec.Epoch}
	if rec.Cancel != nil {
		h.Cancel = &saga.CancelRequest{Who: rec.Cancel.By, At: rec.Cancel.At}
	}
	return h
}

// StageResume stages that a stuck operation goes on where it got stuck. The caller publishes a dispatch with
// Record.Dispatch in the same commit; read locker.Keys(owner) for it. Errors: saga.ErrNotStuck, saga.ErrFormat,
// and those of kvlock's StageResume.
func StageResume(l *kvlock.Locker, s kvtx.Snapshot, tx *kvtx.Tx, owner, reason string) (kvlock.Record, error) {
	return stageResume(l, s, tx, owner, reason, saga.Resumed)
}

func stageResume(l *kvlock.Locker, s kvtx.Snapshot, tx *kvtx.Tx, owner, reason string, next func([]byte) (saga.Entry, error)) (kvlock.Record, error) {
	entry, err := s.Get(kvlock.OwnerKey(owner))
	if err != nil {
		return kvlock.Record{}, err
	}
	rec, err := kvlock.DecodeRecord(entry)
	if err != nil {
		return rec, err
	}
	if !rec.Live() {
		return rec, fmt.Errorf("%w: %s", kvlock.ErrEnded, owner)
	}
	p, err := DecodePayload(rec.Payload)
	if err != nil {
		return rec, fmt.Errorf("operation %s: %w", owner, err)
	}
	e, err := next(p.Run)
	if err != nil {
		return rec, fmt.Errorf("operation %s: %w", owner, err)
	}
	p.Run = e.Record
	b, err := p.encode()
	if err != nil {
		return rec, err
	}
	phase, err := phaseOf(e.Phase)
	if err != nil {
		return rec, err
	}
	return l.StageResume(s, tx, owner, phase, reason, b)
}

var errPhase = errors.New("no phase of an owner record")

// phaseOf maps the phase of a run to that of its owner record.
func phaseOf(p saga.Phase) (kvlock.Phase, error) {
	switch p {
	case saga.Running:
		return kvlock.Running, nil
	case saga.Undoing:
		return kvlock.Undoing, nil
	case saga.Done:
		return kvlock.Done, nil
	case saga.Undone:
		return kvlock.Undone, nil
	case saga.Stuck:
		return kvlock.Stuck, nil
	case saga.Pending:
	}
	return 0, fmt.Errorf("%w: %s", errPhase, p)
}
