package kvlock

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Holding is one lock entry.
type Holding struct {
	Key   string
	Mode  Mode
	Owner string
	Since time.Time
}

// Holders returns the state of one key, read from the leader; a key that nobody holds or waits for is no error.
func (l *Locker) Holders(ctx context.Context, key string) (Lock, error) {
	if err := checkKey(key); err != nil {
		return Lock{}, err
	}
	return readLock(l.leader(ctx), key)
}

// Record returns the owner record of an operation, read from the leader. Errors: ErrNotFound, ErrNewer, ErrBroken.
func (l *Locker) Record(ctx context.Context, owner string) (Record, error) {
	return read(l.leader(ctx), owner)
}

// Holdings goes over all lock entries. It is not one moment's picture: entries may change meanwhile. It ends after the
// first error of the connection; a record that cannot be read is told as an error and does not end it.
func (l *Locker) Holdings(ctx context.Context) iter.Seq2[Holding, error] {
	return func(yield func(Holding, error) bool) {
		for lock, err := range l.Locks(ctx) {
			if err != nil {
				if !yield(Holding{Key: lock.Key}, err) {
					return
				}
				continue
			}
			for _, h := range lock.Holders {
				if !yield(Holding{Key: lock.Key, Mode: lock.Mode, Owner: h.Owner, Since: h.Since}, nil) {
					return
				}
			}
		}
	}
}

// Locks goes over all lock records, as Holdings does.
func (l *Locker) Locks(ctx context.Context) iter.Seq2[Lock, error] {
	return scan(ctx, l.store, lockPrefix, DecodeLock)
}

// Records goes over all owner records, those of ended operations too, as Holdings does.
func (l *Locker) Records(ctx context.Context) iter.Seq2[Record, error] {
	return scan(ctx, l.store, ownerPrefix, DecodeRecord)
}

var errStop = errors.New("enough")

func scan[T any](ctx context.Context, store *kvtx.Store, prefix string, decode func(kvtx.Entry) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := store.Scan(ctx, prefix+">", func(e kvtx.Entry) error {
			if !e.Exists {
				return nil
			}
			if v, err := decode(e); !yield(v, err) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			var zero T
			yield(zero, err)
		}
	}
}
