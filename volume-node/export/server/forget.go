package server

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// How often the server looks for volumes that are gone, and how long a volume must have been missing all the time before its
// fence is forgotten. A file system that is not mounted for a while must not make it forget; no message of an operation
// lives that long, and an export of a file that is missing fails anyway.
const (
	forgetEvery = time.Hour
	forgetAfter = 24 * time.Hour
)

// forget removes the records of volumes without exports whose file has been missing for long.
func (s *Server) forget(now time.Time) {
	s.mu.Lock()
	idle := map[*volume]string{}
	for _, v := range s.volumes {
		if v.recorded && v.users == 0 && v.damaged == nil && len(v.record.Exports) == 0 && v.record.Path != "" {
			idle[v] = v.record.Path
		}
	}
	s.mu.Unlock()
	for v, path := range idle {
		_, err := os.Stat(path)
		gone := errors.Is(err, fs.ErrNotExist)
		s.mu.Lock()
		switch {
		case v.users > 0 || len(v.record.Exports) > 0 || v.record.Path != path || !gone:
			v.missing = time.Time{}
		case v.missing.IsZero():
			v.missing = now
		case now.Sub(v.missing) >= forgetAfter:
			if err := s.table.remove(v.id); err != nil {
				s.log.Warn("record of a volume that is gone cannot be removed", "volume", v.id, "error", err)
				break
			}
			delete(s.volumes, v.id)
		}
		s.mu.Unlock()
	}
}
