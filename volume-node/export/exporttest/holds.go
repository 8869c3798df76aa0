package exporttest

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/volume-node/export"
)

func (s *suite) nothingIsWrittenWhileHeld() {
	r := s.request("a")
	c := s.export(r)
	var all sync.WaitGroup
	hosts := make([]Host, 3)
	for lane := range hosts {
		h := s.host(c)
		hosts[lane] = h
		all.Go(func() { hammer(h, int64(lane)) })
	}
	reader := s.host(c)
	for round := range 10 {
		h, err := s.Exporter.Hold(s.Context(), r.Volume)
		s.must("Hold", err, nil)
		first := s.read(r.Path)
		p := make([]byte, mib)
		s.must("read while held", reader.ReadAt(p, 0), nil)
		if !bytes.Equal(first, p) || !bytes.Equal(first, s.read(r.Path)) {
			s.Errorf("round %d: the file changed while it was held", round)
		}
		s.must("Release", h.Release(), nil)
		s.must("Release again", h.Release(), nil)
		s.eventually("writes go on", func() bool { return !bytes.Equal(first, s.read(r.Path)) })
	}
	for _, h := range hosts {
		_ = h.Close()
	}
	all.Wait()
}

func (s *suite) holdCoversLaterExports() {
	r := s.request("a")
	h, err := s.Exporter.Hold(s.Context(), r.Volume)
	s.must("Hold of a volume without exports", err, nil)
	host := s.host(s.export(r))
	written := make(chan error, 1)
	go func() { written <- host.WriteAt([]byte("x"), 0) }()
	p := make([]byte, 1)
	for range 200 { // reads go on, and give a write that is not held the time to land
		s.must("read", host.ReadAt(p, 0), nil)
		if p[0] != 0 {
			s.Fatal("a write through an export made during the hold landed")
		}
	}
	select {
	case err := <-written:
		s.Errorf("a write through an export made during the hold returned: %v", err)
	default:
	}
	s.must("Release", h.Release(), nil)
	s.must("write", <-written, nil)
}

func (s *suite) holdsMayOverlap() {
	r := s.request("a")
	host := s.host(s.export(r))
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	one, err := s.Exporter.Hold(ctx, r.Volume)
	s.must("Hold", err, nil)
	two, err := s.Exporter.Hold(ctx, r.Volume)
	s.must("second Hold", err, nil)
	written := make(chan error, 1)
	go func() { written <- host.WriteAt([]byte("x"), 0) }()
	s.must("Release", one.Release(), nil)
	s.must("read", host.ReadAt(make([]byte, 1), 0), nil)
	if s.read(r.Path)[0] != 0 {
		s.Error("a write landed under the second hold")
	}
	s.must("Release of the second", two.Release(), nil)
	s.must("write", <-written, nil)
}

func (s *suite) lostHoldIsReported() {
	r := s.request("a")
	host := s.host(s.export(r))
	h, err := s.Exporter.Hold(s.Context(), r.Volume)
	s.must("Hold", err, nil)
	s.must("write, which waits for the limit", host.WriteAt([]byte("x"), 0), nil)
	s.must("Release", h.Release(), export.ErrHoldLost)
	s.must("Release again", h.Release(), export.ErrHoldLost)
}

func (s *suite) unexportEndsHeldWrites() {
	r := s.request("a")
	host := s.host(s.export(r))
	h, err := s.Exporter.Hold(s.Context(), r.Volume)
	s.must("Hold", err, nil)
	written := make(chan error, 1)
	go func() { written <- host.WriteAt([]byte("x"), 0) }()
	s.must("read", host.ReadAt(make([]byte, 1), 0), nil)
	s.must("Unexport", s.Exporter.Unexport(s.Context(), removal(r)), nil)
	if err := <-written; err == nil {
		s.Error("the held write succeeded")
	}
	s.must("Release", h.Release(), nil)
	if s.read(r.Path)[0] != 0 {
		s.Error("the held write landed after Unexport")
	}
}

func (s *suite) killLosesHolds() {
	if s.Kill == nil {
		s.Skip("this exporter has no data plane of its own to kill")
	}
	r := s.request("a")
	s.export(r)
	h, err := s.Exporter.Hold(s.Context(), r.Volume)
	s.must("Hold", err, nil)
	s.Kill(s.T)
	s.eventually("the export is back", func() bool { return len(s.list()) == 1 })
	s.must("Release", h.Release(), export.ErrHoldLost)
}
