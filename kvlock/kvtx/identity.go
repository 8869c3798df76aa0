package kvtx

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// identity is what a store knows of its stream being the one that was opened. A stream that was deleted and made again begins its sequences
// anew, so an old revision may match by chance there. It is noticed
//
//   - after every break of the connection, before anything is sent again;
//   - when an acknowledgement has a sequence that the stream had passed before;
//   - when it ends before what was acknowledged, or seen by a watch, and has no replicas that would know of it;
//   - when a commit is refused, about once a second, and when nobody listens any more.
type identity struct {
	broken  atomic.Pointer[error] // Why nothing can be done with the stream any more.
	checked atomic.Uint64         // The breaks of the connection after which the stream was looked at.
	looked  atomic.Int64          // When it was looked at last, Unix nanoseconds.
	highest atomic.Uint64         // The highest sequence that was acknowledged.
}

// failed is why nothing can be done with the stream any more, or nil.
func (i *identity) failed() error {
	if err := i.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes the store refuse everything from now on.
func (i *identity) fail(err error) error {
	i.broken.CompareAndSwap(nil, &err)
	return *i.broken.Load()
}

// lookAgain is how often the stream is looked at because of refusals.
const lookAgain = time.Second

// sameStream asks for the stream and makes sure that it is the one that was opened, and still fit.
func (s *Store) sameStream(ctx context.Context) (*jetstream.StreamInfo, error) {
	breaks, highest := s.server.Breaks(), s.highest.Load() // before it is asked
	ctx, cancel := context.WithTimeout(ctx, s.opts.ackTimeout)
	defer cancel()
	info, err := s.server.Info(ctx, "")
	if err != nil {
		return nil, err
	}
	if !info.Created.Equal(s.created) {
		return nil, s.fail(fmt.Errorf("%w: %s was made at %s, not at %s", ErrStreamReplaced, info.Config.Name,
			info.Created.Format(time.RFC3339Nano), s.created.Format(time.RFC3339Nano)))
	}
	if err := verify(info.Config, s.cfg); err != nil {
		return nil, s.fail(err)
	}
	if err := s.goesOn(info, highest); err != nil {
		return nil, err
	}
	s.checked.Store(breaks)
	s.looked.Store(time.Now().UnixNano())
	return info, nil
}

// goesOn makes sure that a stream has not lost what is known to have been in it: its sequences begin lower then, and are given again. Of a
// replicated stream a server may answer that is behind.
func (s *Store) goesOn(info *jetstream.StreamInfo, seen uint64) error {
	if last := info.State.LastSeq; last < seen && info.Config.Replicas <= 1 {
		return s.fail(fmt.Errorf("%w: %s ends at sequence %d, and had %d: its server has lost data", ErrStreamReplaced, info.Config.Name, last, seen))
	}
	return nil
}

// Check asks the stream's leader whether the stream is the one that was opened, with all that was acknowledged. Errors: [ErrStreamReplaced],
// [ErrStream], [ErrClosed]; others say that there was no answer.
func (s *Store) Check(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	_, err := s.sameStream(ctx)
	return err
}

// ready waits for a connection, and looks at the stream if it broke since the last look. What waits since begin may become stale.
func (s *Store) ready(ctx context.Context, begin time.Time) error {
	for try := 0; ; try++ {
		if err := s.server.Connected(ctx); err != nil {
			return err
		}
		if s.checked.Load() == s.server.Breaks() {
			if err := s.failed(); err != nil {
				return err
			}
			if time.Since(begin) > s.fresh {
				return errStale
			}
			return nil
		}
		_, err := s.sameStream(ctx)
		switch {
		case err == nil:
			continue
		case s.failed() != nil:
			return err
		case errors.Is(err, jetstream.ErrStreamNotFound) && try > 3:
			return err
		}
		if err := pause(ctx, ctx, s.backoff(try)); err != nil {
			return err
		}
	}
}

// look makes sure that the stream is the same if that was not done for a while. Without an answer nothing is known, and nothing is said.
func (s *Store) look(ctx context.Context) error {
	if time.Since(time.Unix(0, s.looked.Load())) < lookAgain {
		return nil
	}
	_, err := s.sameStream(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return s.failed()
}

// acknowledged takes note of a sequence that was acknowledged for a message sent when before was the highest one.
func (s *Store) acknowledged(ctx context.Context, seq, before uint64) error {
	if seq <= before {
		_, err := s.sameStream(ctx)
		if err == nil {
			err = s.fail(fmt.Errorf("%w: sequence %d was acknowledged after %d", ErrStreamReplaced, seq, before))
		}
		return err
	}
	for {
		have := s.highest.Load()
		if have >= seq || s.highest.CompareAndSwap(have, seq) {
			return nil
		}
	}
}
