package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/scoria-storage/scoria/volume-node/export"
)

// hold is a volume whose writes wait. It is in force exactly while Server.holds has it.
type hold struct {
	token  string
	volume *volume
	timer  *time.Timer
	ended  chan struct{} // closed when it is no longer in force
}

// hold flushes the volume, makes its writes wait, and flushes what came in between; see [export.Exporter].
func (s *Server) hold(ctx context.Context, id string) (*hold, error) {
	if err := token("Volume", id); err != nil {
		return nil, err
	}
	v := s.use(id)
	// Most of the data goes before writes have to wait for it.
	if err := s.syncAll(v); err != nil {
		s.drop(v)
		return nil, err
	}
	closing, cancel := context.WithTimeoutCause(ctx, s.cfg.HoldLimit, errLongWrites)
	defer cancel()
	if err := v.gate.Close(closing); err != nil {
		s.drop(v)
		return nil, fmt.Errorf("hold of volume %s: %w", id, err)
	}
	h := &hold{token: rand.Text(), volume: v, ended: make(chan struct{})}
	s.mu.Lock()
	s.holds[h.token] = h
	h.timer = time.AfterFunc(s.cfg.HoldLimit, func() { s.expire(h) })
	s.mu.Unlock()
	err := s.syncAll(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	inForce := s.holds[h.token] == h
	if err == nil && (!inForce || s.closed) {
		err = fmt.Errorf("%w: flush of volume %s took longer than %v, or the export server is ending", export.ErrUnavailable, id, s.cfg.HoldLimit)
	}
	if err != nil {
		if inForce {
			s.finish(h)
		}
		return nil, err
	}
	return h, nil
}

var errLongWrites = fmt.Errorf("%w: writes under way do not come to an end", export.ErrUnavailable)

func (s *Server) syncAll(v *volume) error {
	s.mu.Lock()
	disks := make([]*exported, 0, len(v.disks))
	for _, x := range v.disks {
		disks = append(disks, x)
	}
	s.mu.Unlock()
	for _, x := range disks {
		if err := x.sync(); err != nil {
			return fmt.Errorf("flush of volume %s: %w", v.id, err)
		}
	}
	return nil
}

// release ends a hold for its owner, and says whether it was in force until now.
func (s *Server) release(token string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds[token]
	if h == nil {
		return fmt.Errorf("%w: it ended before it was released", export.ErrHoldLost)
	}
	s.finish(h)
	return nil
}

// expire ends a hold whose owner has not released it: too late, or gone.
func (s *Server) expire(h *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds[h.token] != h {
		return
	}
	s.log.Warn("hold ended before its owner released it", "volume", h.volume.id)
	s.finish(h)
}

// finish lets writes go on. The caller holds s.mu, and the hold is in force.
func (s *Server) finish(h *hold) {
	delete(s.holds, h.token)
	h.timer.Stop()
	h.volume.gate.Open()
	close(h.ended)
	s.dropLocked(h.volume)
}
