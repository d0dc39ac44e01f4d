package relay

import "context"

// Backplane connects this node to others that have channel layers of their own. Its methods may be called
// concurrently.
type Backplane interface {
	// Interest hears of groups that got their first client on this node or lost their last. Calls come one after
	// another and in order; it must neither block nor call the hub. The function that it returns, if any, waits until the peers
	// send events of the joined groups, as far as they can tell, or ctx ends.
	Interest(joined, left []string) (wait func(ctx context.Context))
	// Published is called with each event that this node itself has published to its layer.
	Published(ctx context.Context, group string, text []byte) error
}

// SetBackplane puts b in force; nil removes it. The groups that clients want already are told to it
// before it returns.
func (h *Hub) SetBackplane(b Backplane) {
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
func (h *Hub) Backplane() Backplane {
	h.interest.mu.Lock()
	defer h.interest.mu.Unlock()
	return h.interest.backplane
}
