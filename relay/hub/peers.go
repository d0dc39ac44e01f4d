package hub

import "github.com/edgerelay/edgerelay/relay"

// SetBackplane puts b in force; nil removes it. The groups that clients want already are told to it
// before it returns.
func (h *Hub) SetBackplane(b relay.Backplane) {
	h.interest.mu.Lock()
	defer h.interest.mu.Unlock()
	h.interest.backplane = b
	if b == nil {
		return
	}
	var groups []string
	for g, m := range h.interest.groups {
		if m.clients > 0 {
			groups = append(groups, g)
		}
	}
	b.Interest(groups, nil)
}

// Backplane returns the backplane in force, nil if there is none.
func (h *Hub) Backplane() relay.Backplane {
	h.interest.mu.Lock()
	defer h.interest.mu.Unlock()
	return h.interest.backplane
}
