package kvtx

// Waiting is how many commits wait for the next group.
func Waiting(s *Store) int {
	s.committer.mu.Lock()
	defer s.committer.mu.Unlock()
	return len(s.committer.waiting)
}
