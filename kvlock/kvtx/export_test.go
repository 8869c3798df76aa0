package kvtx

import "time"

// Waiting is how many commits wait for the next group.
func Waiting(s *Store) int {
	s.committer.mu.Lock()
	defer s.committer.mu.Unlock()
	return len(s.committer.waiting)
}

// WithFresh sets how old an entry may be that a commit is decided on.
func WithFresh(d time.Duration) Option { return func(o *options) { o.fresh = d } }

// UnderWay is how many commits are under way, and what they hold.
func UnderWay(s *Store) (commits, bytes int) {
	s.limit.mu.Lock()
	defer s.limit.mu.Unlock()
	return s.limit.inCommits, s.limit.inBytes
}
