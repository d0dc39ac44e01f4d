package hub

// resync sends a frame once to each client with a subscription to any of the groups, or to any group at all. The frame
// is queued like an event, after all earlier events.
func (h *Hub) resync(groups []string, all bool, frame []byte) {
	for _, s := range h.shards {
		var a *audience
		if all {
			a = s.everySubscriber()
		} else {
			a = s.union(groups)
		}
		if len(a.subs) > 0 {
			s.queue.push([]job{{audience: a, frames: frame, count: 1, classes: allClasses}}, len(frame))
		}
	}
}

// union returns the sessions in the audiences of the groups, each once.
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

// everySubscriber returns the sessions with a subscription, each once.
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

// union collects the sessions of audiences.
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
