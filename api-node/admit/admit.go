// Package admit decides whether a request is accepted, and makes it durable if it is: request → validate → claims → one
// commit → accepted or refused. HTTP and messages come through here alike; there is no other way.
//
// Nouns: a submission is a request with its caller and, if the caller chose one, its operation ID; a draft is one run of a
// decision on one snapshot of the records; a refusal is a *messages.Error, whose text is Cinder's where Cinder has one.
//
// Invariants:
//   - An accepted request is one commit: operation, locks, resources, child sets, quota and dispatch. A refused one changed
//     nothing.
//   - A decision rests on records whose revisions the commit checks; the view is a hint, for the choice of a backend and
//     for the names of nodes that may have given credits.
//   - A volume's record is rewritten by everything that changes what may be done to it, so that two decisions about one
//     volume conflict on its revision.
//   - An operation ID stands for one request for as long as its record is kept: repeated, the same operation is returned,
//     also when it has ended or when the answer was lost; with another request it is refused.
//   - The use of a quota never exceeds its limit by an accepted request. Credits that nodes have given are folded in before
//     anything is refused for want of quota.
//
// It does not run operations, and it does not wait for them.
package admit

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/scoria-storage/scoria/api-node/serving"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

const (
	// DefaultType is the name of the only volume type of this release.
	DefaultType = "__DEFAULT__"
	// DefaultZone is the availability zone of backends that name none.
	DefaultZone = "nova"
)

// DefaultLimits are Cinder's.
var DefaultLimits = records.Limits{Volumes: 10, Snapshots: 10, GiB: 1000}

// Defaults is what applies where nothing was said. The zero value works.
type Defaults struct {
	// Limits of projects without their own; the zero value is DefaultLimits. records.Unlimited (-1) is no limit.
	Limits records.Limits
	Type   string // DefaultType if empty
	Zone   string // DefaultZone if empty
}

func (d Defaults) filled() Defaults {
	if d.Limits == (records.Limits{}) {
		d.Limits = DefaultLimits
	}
	d.Type = cmp.Or(d.Type, DefaultType)
	d.Zone = cmp.Or(d.Zone, DefaultZone)
	return d
}

// Hints is what admission takes from the view. It may be out of date.
type Hints interface {
	Backends() []records.Backend
	Backend(name string) (records.Backend, bool)
	Pool(backend string) (records.Pool, bool)
	Nodes() []records.Node
	CreditNodes(project string) []string
}

// Admitter admits requests. It is safe for concurrent use.
type Admitter struct {
	store    *kvtx.Store
	locks    *kvlock.Locker
	hints    Hints
	defaults Defaults
	log      *slog.Logger
	now      func() time.Time
	disk     Disk
	stream   Stream
	fences   Fences        // nil: locks cannot be broken
	ask      serving.Asker // nil: backends cannot be forgotten
	serving  Serving       // nil: it is not known which backends processes serve
}

// New returns an Admitter on the store. A nil log discards.
func New(store *kvtx.Store, locks *kvlock.Locker, hints Hints, defaults Defaults, log *slog.Logger, opts ...Option) *Admitter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Admitter{store: store, locks: locks, hints: hints, defaults: defaults.filled(), log: log, now: time.Now}
	for _, opt := range opts {
		opt(a)
	}
	return a
}

// Defaults returns what applies where nothing was said.
func (a *Admitter) Defaults() Defaults { return a.defaults }

// Caller is who asks.
type Caller struct {
	Project   string // a token
	User      string
	RequestID string
	// Admin sees the resources of all projects.
	Admin bool
}

// Submission asks for an operation.
type Submission struct {
	Caller Caller
	// Operation is the caller's choice, a UUID; empty: a new one is made up.
	Operation block.OperationID
	// OnConflict is as ParseOnConflict of package messages reads it; "" refuses.
	OnConflict string
	Request    messages.Request
}

// Accepted is an operation that will run.
type Accepted struct {
	Operation block.OperationID
	Resource  string
	// Repeated: the operation was accepted before; nothing was written now.
	Repeated bool
	// Revision is the last one that the commit wrote to a record that the view holds.
	Revision kvtx.Revision
}

// Submit accepts a request or refuses it. Refusals are *messages.Error. CodeUnavailable may leave it open whether the
// request was accepted: then the text names the operation, and the same submission with that ID may be repeated.
func (a *Admitter) Submit(ctx context.Context, sub Submission) (Accepted, error) {
	p, err := a.prepare(ctx, sub)
	if err != nil {
		return Accepted{}, err
	}
	var d *draft
	res, err := a.update(ctx, a.need(ctx, p, sub), p.keys, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		d = &draft{a: a, p: p, s: s, tx: tx}
		return d.admit()
	}, kvtx.AssumeAbsent(p.fresh...))
	if exists, ok := errors.AsType[*kvlock.ExistsError](err); ok {
		return a.repeated(ctx, p, exists.Record)
	}
	if err != nil {
		err = a.refusal(err, p.id)
		if e, ok := errors.AsType[*messages.Error](err); ok && e.Holder != nil {
			a.locks.Observe(kvlock.Event{Kind: kvlock.Refused, Owner: string(p.id), Err: err})
		}
		return Accepted{}, err
	}
	event, what := kvlock.Acquired, "operation accepted"
	if d.rec.Phase == kvlock.Queued {
		event, what = kvlock.Enqueued, "operation accepted, it waits in line"
	}
	a.locks.Observe(kvlock.EventOf(event, d.rec))
	acc := Accepted{Operation: p.id, Resource: d.req.Resource(), Revision: res.Revision(kvlock.OwnerKey(string(p.id)))}
	for _, w := range d.writes {
		acc.Revision = max(acc.Revision, res.Revision(w.key))
	}
	a.log.InfoContext(ctx, what, "operation", p.id, "kind", p.kind, "project", p.caller.Project,
		"resource", acc.Resource, "backend", d.backend, "request_id", p.caller.RequestID)
	return acc, nil
}

// prepared is a submission that passed what needs no records.
type prepared struct {
	caller Caller
	id     block.OperationID
	kind   block.Kind
	req    messages.Request // with all IDs, and without what only admission says; never changed
	digest []byte
	at     time.Time
	decide func(*draft) error
	empty  *empty   // of the creation of an empty volume
	keys   []string // to read in advance
	fresh  []string // keys with an ID that was just made up
	wait   messages.OnConflict
}

func (a *Admitter) prepare(ctx context.Context, sub Submission) (*prepared, error) {
	if sub.Request == nil {
		return nil, messages.Errorf(messages.CodeInvalid, "the request is missing")
	}
	if err := checkCaller(sub); err != nil {
		return nil, err
	}
	wait, err := messages.ParseOnConflict(sub.OnConflict)
	if err != nil {
		return nil, err
	}
	req, err := bare(sub.Request)
	if err != nil {
		return nil, err
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	p := &prepared{
		caller: sub.Caller, id: sub.Operation, kind: req.Kind(), at: a.now().UTC().Truncate(time.Microsecond),
		digest: digest(sub.Caller.Project, req), wait: wait,
	}
	if p.id == "" {
		p.id = block.OperationID(newID())
	}
	p.fresh = append(p.fresh, kvlock.OwnerKey(string(p.id)))
	a.plan(ctx, p, req)
	return p, nil
}

func checkCaller(sub Submission) error {
	if err := block.CheckToken(sub.Caller.Project); err != nil {
		return messages.Errorf(messages.CodeInvalid, "Malformed project ID: %v", err)
	}
	if sub.Operation != "" && !block.IsUUID(string(sub.Operation)) {
		return &messages.Error{Code: messages.CodeInvalid, Field: "operation",
			Message: "Invalid input for field/attribute operation: it must be a UUID in lower case"}
	}
	return nil
}

func newID() string { return uuid.NewString() }
