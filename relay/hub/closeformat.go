package hub

import "github.com/edgerelay/edgerelay/relay"

// CloseFormat closes the sockets of all clients with a format. Sessions that open afterwards are not closed.
func (h *Hub) CloseFormat(format relay.Format, code int, reason string) {
	for _, s := range h.allSessions() {
		if s.format == format {
			s.socket.Close(code, reason)
		}
	}
}

// EachOfFormat calls fn with the open sessions of a format and their groups, while no subscription of the session
// changes. EachOfFormat waits for subscriptions that wait for the channel layer.
func (h *Hub) EachOfFormat(format relay.Format, fn func(s relay.Session, groups []string)) {
	for _, s := range h.allSessions() {
		if s.format != format {
			continue
		}
		s.mu.Lock()
		if !s.closed && len(s.subs) > 0 {
			groups := make([]string, len(s.subs))
			for i, sub := range s.subs {
				groups[i] = sub.group
			}
			fn(s, groups)
		}
		s.mu.Unlock()
	}
}
