package sagakv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/saga"
)

// Journal keeps runs in the owner records of one bucket. A run ID is an operation ID: [A-Za-z0-9_-]{1,64}.
type Journal struct {
	store  *kvtx.Store
	locker *kvlock.Locker
	worker string
	claims func(saga.ID) []kvlock.Claim
}

var _ saga.Journal = (*Journal)(nil)

// NewJournal makes a journal whose runs claim what claims returns, exclusively the key saga.<id> if it is nil.
// worker names this process in the records, a new name at every start.
func NewJournal(store *kvtx.Store, locker *kvlock.Locker, worker string, claims func(saga.ID) []kvlock.Claim) *Journal {
	if claims == nil {
		claims = func(id saga.ID) []kvlock.Claim { return []kvlock.Claim{kvlock.Exclusive("saga." + string(id))} }
	}
	return &Journal{store: store, locker: locker, worker: worker, claims: claims}
}

// Begin implements saga.Journal: the record, the claims and the writes are one commit. *kvlock.ConflictError if
// the claims are not free.
func (j *Journal) Begin(ctx context.Context, id saga.ID, first saga.Entry) error {
	st, err := writesOf(first.Writes)
	if err != nil {
		return err
	}
	b, err := Payload{Run: first.Record}.encode()
	if err != nil {
		return err
	}
	claims := j.claims(id)
	_, err = j.store.Update(ctx, append(j.locker.Keys(string(id), claims...), st.keys...), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		if _, err := j.locker.StageAcquire(s, tx, string(id), b, claims...); err != nil {
			return err
		}
		return st.run(s, tx)
	})
	if w := (*writeError)(nil); errors.As(err, &w) {
		return &saga.RefusedError{Err: w.result()}
	}
	if errors.Is(err, kvlock.ErrExists) { // before ErrEnded, which such an error may match, too
		return fmt.Errorf("%w: %w", saga.ErrExists, err)
	}
	return translate(err)
}

// TakeOver implements saga.Journal.
func (j *Journal) TakeOver(ctx context.Context, id saga.ID) (saga.Log, error) {
	g, rec, err := j.locker.Adopt(ctx, string(id), j.worker, rand.Text())
	if err != nil {
		return nil, translate(err)
	}
	return Attach(j.store, j.locker, g, rec)
}

// Load implements saga.Journal.
func (j *Journal) Load(ctx context.Context, id saga.ID) (saga.Head, error) {
	rec, err := j.locker.Record(ctx, string(id))
	if err != nil {
		return saga.Head{}, translate(err)
	}
	p, err := DecodePayload(rec.Payload)
	if err != nil {
		return saga.Head{}, fmt.Errorf("operation %s: %w", id, err)
	}
	return headOf(rec, p), nil
}

// Cancel implements saga.Journal.
func (j *Journal) Cancel(ctx context.Context, id saga.ID, who string) error {
	_, err := j.locker.Cancel(ctx, string(id), who)
	return translate(err)
}

// Resume implements saga.Journal.
func (j *Journal) Resume(ctx context.Context, id saga.ID, who string, next func([]byte) (saga.Entry, error)) error {
	_, err := j.store.Update(ctx, j.locker.Keys(string(id)), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		_, err := stageResume(j.locker, s, tx, string(id), who, next)
		return err
	})
	return translate(err)
}

// Open implements saga.Journal.
func (j *Journal) Open(ctx context.Context) iter.Seq2[saga.ID, error] {
	return func(yield func(saga.ID, error) bool) {
		for rec, err := range j.locker.Records(ctx) {
			if err == nil && !rec.Live() {
				continue
			}
			if !yield(saga.ID(rec.Owner), err) {
				return
			}
		}
	}
}

// translate makes kvlock's errors match saga's, too.
func translate(err error) error {
	for _, m := range [...]struct{ is, as error }{
		{kvlock.ErrNotFound, saga.ErrNotFound},
		{kvlock.ErrAdopted, saga.ErrFenced},
		{kvlock.ErrEnded, saga.ErrEnded},
		{kvlock.ErrVoid, saga.ErrEnded},
		{kvlock.ErrStuck, saga.ErrStuck},
	} {
		if errors.Is(err, m.is) {
			return fmt.Errorf("%w: %w", m.as, err)
		}
	}
	return err
}
