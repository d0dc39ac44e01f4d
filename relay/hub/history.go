package hub

import "github.com/edgerelay/edgerelay/relay"

// SetHistory replaces the history; nil removes it.
func (h *Hub) SetHistory(history relay.History) {
	h.interest.setHistory(history) // before the first event is recorded
	if history == nil {
		h.history.Store(nil)
	} else {
		h.history.Store(&history)
	}
	h.resumes.forgetHeads()
}

// History returns the current history, nil if there is none.
func (h *Hub) History() relay.History {
	if p := h.history.Load(); p != nil {
		return *p
	}
	return nil
}

// historyLimits returns the bounds of a group's history, and false for a group without history.
func (h *Hub) historyLimits(group string) (relay.HistoryLimits, bool) {
	if history := h.History(); history != nil {
		return history.Limits(group)
	}
	return relay.HistoryLimits{}, false
}

// OptIn implements [relay.Session].
func (s *Session) OptIn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.shard.hub
	if s.positioned || s.closed || len(s.subs) > 0 || h.framerOf(s.format) == nil {
		return
	}
	s.positioned = true
	h.resumes.clients.Add(1)
}
