package sortedset

// PendingGapCount returns the number of gaps of all groups, and of groups with gaps, that are not in Redis yet. A gap
// concerns the positions that are in Redis when it is written.
func (s *Store) PendingGapCount() (n int) {
	for _, h := range s.hosts {
		h.mu.Lock()
		n += len(h.pending.groups) + len(h.pending.all)
		h.mu.Unlock()
	}
	return n
}
