package hub

// resync sends a frame once to each client of any of the groups, or to each that has a group. Clients get it in its
// place among events: after those that were delivered before.
func (h *Hub) resync(groups []string, all bool, frame []byte) {
	for _, s := range h.shards {
		a := s.everySubscriber
		if !all {
			a = func() *audience { return s.union(groups) }
		}
		if a := a(); len(a.subs) > 0 {
			s.queue.push([]job{{audience: a, frames: frame, count: 1, classes: everybody}}, len(frame))
		}
	}
}

// union is the sessions that are in the audience of any of the groups, once each.
func (s *shard) union(groups []string) *audience {
	s.round.Lock()
	defer s.round.Unlock()
	u := union{seen: map[*Session]bool{}}
	for _, g := range groups {
		if a := s.audience(g); a != nil {
			u.add(a)
		}
	}
	return &u.audience
}

// everySubscriber is the sessions that are in any audience, once each.
func (s *shard) everySubscriber() *audience {
	s.round.Lock()
	defer s.round.Unlock()
	u := union{seen: map[*Session]bool{}}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range s.audiences {
		u.add(a)
	}
	return &u.audience
}

// union gathers the sessions of audiences.
type union struct {
	audience
	seen map[*Session]bool
}

func (u *union) add(a *audience) {
	for _, sub := range a.subs {
		if !u.seen[sub.session] {
			u.seen[sub.session] = true
			u.subs = append(u.subs, sub)
		}
	}
}
