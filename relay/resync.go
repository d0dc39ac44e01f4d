package relay

// Resyncer is a [Sink] that can tell clients that they may have missed events.
type Resyncer interface {
	// Resync sends text once to each client of any of the groups.
	Resync(groups []string, text []byte)
}

var _ Resyncer = (*Hub)(nil)

// Resync implements [Resyncer]. Clients get the text in its place among events: after those that were delivered before.
func (h *Hub) Resync(groups []string, text []byte) {
	frame := AppendFrame(make([]byte, 0, frameSize(len(text))), text)
	for _, s := range h.shards {
		if a := s.union(groups); len(a.subs) > 0 {
			s.queue.push([]job{{audience: a, frames: frame, count: 1, classes: everybody}}, len(frame))
		}
	}
}

// union is the sessions that are in the audience of any of the groups, once each.
func (s *shard) union(groups []string) *audience {
	s.round.Lock()
	defer s.round.Unlock()
	union, seen := &audience{}, map[*Session]bool{}
	for _, g := range groups {
		a := s.audience(g)
		if a == nil {
			continue
		}
		for _, sub := range a.subs {
			if !seen[sub.session] {
				seen[sub.session] = true
				union.subs = append(union.subs, sub)
			}
		}
	}
	return union
}
