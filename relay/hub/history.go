package hub

import "github.com/edgerelay/edgerelay/relay"

// SetHistory replaces the history; nil removes it.
func (h *Hub) SetHistory(history relay.History) {
	if history == nil {
		h.history.Store(nil)
		return
	}
	h.history.Store(&history)
}

// History returns the current history, nil if there is none.
func (h *Hub) History() relay.History {
	if p := h.history.Load(); p != nil {
		return *p
	}
	return nil
}

// OptIn implements [relay.Session].
func (s *Session) OptIn() {}
