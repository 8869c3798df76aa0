package kvtx

import (
	"context"
	"time"
)

// A server whose disk is full or broken goes on showing what it could not write, and forgets it when it is started again. It acknowledges
// no write any more until then (nats-server 2.15.2, fileStore.werr). So whatever it shows with a lower sequence than a write that it
// acknowledged is on the disk, and nothing else is sure to be. What was read before a break of the connection says nothing: a server that
// was started again gives the sequences of what it has forgotten once more. A lost answer is decided by what is on the disk alone, and so is an update that writes nothing
// because it finds done what it was to do.

// readSure reads an entry that is on the server's disk.
func (s *Store) readSure(ctx context.Context, key string) (Entry, error) {
	for {
		ks, err := s.readMany(ctx, ctx, key)
		if err != nil {
			return Entry{}, err
		}
		k, highest := &ks[0], s.highest.Load() // before the breaks, as in snapshot.Get
		if uint64(k.Revision) <= highest && k.breaks == s.server.Breaks() {
			return k.Entry, nil
		}
		// After that it is read again: the server may have been started again meanwhile, without it.
		if err := s.prove(ctx, k.Revision); err != nil {
			return Entry{}, err
		}
	}
}

// prove sees to it that a write above the revision is acknowledged: by one write for all who wait for one.
func (s *Store) prove(ctx context.Context, r Revision) error {
	select {
	case s.proving <- struct{}{}:
		defer func() { <-s.proving }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if uint64(r) <= s.highest.Load() {
		return nil
	}
	return s.writeProof(ctx)
}

// proveFor is prove for a call that ends with the store.
func (s *Store) proveFor(ctx context.Context, r Revision) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	return s.prove(ctx, r)
}

// writeProof writes until a write is acknowledged.
func (s *Store) writeProof(ctx context.Context) error {
	key := "chk." + s.committer.name + ".proof"
	m := message{subject: s.prefix + key, ttl: s.markerTTL}
	t := tries{begin: time.Now(), doubt: true} // that there is no room is no reason to give up
	for {
		_, err := s.sendOne(ctx, key, &m, time.Now())
		if err == nil {
			return nil
		}
		if err := s.again(ctx, &t, err); err != nil {
			return err
		}
	}
}

// unproven is the highest revision of what the function read that is not sure to be on the disk; 0 if all of it is. What another member of
// the group has staged is on the disk when that is answered.
func (s *snapshot) unproven() Revision {
	var highest Revision
	for i := range s.reads {
		if r := s.reads[i].Revision; !r.Pending() && uint64(r) > s.proven {
			highest = max(highest, r)
		}
	}
	return highest
}
