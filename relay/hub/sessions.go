package hub

import (
	"net/netip"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// SessionInfo is an operator's view of a session.
type SessionInfo struct {
	// ID identifies the session within this process.
	ID uint32
	// User is the user's id, Name the user's name.
	User, Name string
	// Door is the way by which the client is connected.
	Door relay.Door
	// Address is the client's.
	Address netip.Addr
	// Opened is when the session began, LastRead when bytes last arrived from the client.
	Opened, LastRead time.Time
	// Groups are the subscriptions. While they change, Changing is set and Groups is nil.
	Groups   []string
	Changing bool
	// Waiting is the number of bytes queued for the client.
	Waiting int
}

// SessionFilter selects the sessions that match all fields that are set.
type SessionFilter struct {
	// ID is the session's.
	ID uint32
	// User is the user's id or name.
	User string
	// Group is the full name of a group that the session is subscribed to.
	Group string
	// Address is the range that the client's address is in.
	Address netip.Prefix
}

func (f *SessionFilter) matches(s *Session) bool {
	return (f.ID == 0 || f.ID == s.id) &&
		(f.User == "" || f.User == s.identity.Key || f.User == s.identity.Name) &&
		(!f.Address.IsValid() || f.Address.Contains(s.address))
}

// Sessions returns, by ID, the first limit sessions that f selects with an ID greater than after, and the number of all
// sessions that f selects.
func (h *Hub) Sessions(f SessionFilter, after uint32, limit int) (page []SessionInfo, total int) {
	first := top[*Session]{limit: limit, before: func(a, b **Session) bool { return (*a).id < (*b).id }}
	h.eachSession(f, func(s *Session) {
		total++
		if s.id > after {
			first.add(s)
		}
	})
	for _, s := range first.items {
		page = append(page, s.info(s.waiting()))
	}
	return page, total
}

// SlowestSessions returns the limit sessions with the most queued bytes, most first, and the number of all sessions;
// both count only sessions that f selects. Sessions without queued bytes are not in the page.
func (h *Hub) SlowestSessions(f SessionFilter, limit int) (page []SessionInfo, total int) {
	type slow struct {
		*Session
		waiting int
	}
	first := top[slow]{limit: limit, before: func(a, b *slow) bool {
		return a.waiting > b.waiting || a.waiting == b.waiting && a.id < b.id
	}}
	h.eachSession(f, func(s *Session) {
		total++
		if n := s.waiting(); n > 0 {
			first.add(slow{s, n})
		}
	})
	for _, s := range first.items {
		page = append(page, s.info(s.waiting))
	}
	return page, total
}

// CloseSessions closes the sockets of all sessions that f selects, and returns their number.
func (h *Hub) CloseSessions(f SessionFilter, code int, reason string) (count int) {
	h.eachSession(f, func(s *Session) {
		s.socket.Close(code, reason)
		count++
	})
	return count
}

// eachSession calls fn with the sessions that f selects, without a lock; the lists are copied before.
func (h *Hub) eachSession(f SessionFilter, fn func(*Session)) {
	for _, shard := range h.shards {
		var sessions []*Session
		if f.Group != "" {
			sessions = shard.subscribers(f.Group)
		} else {
			sessions = shard.all()
		}
		for _, s := range sessions {
			if f.matches(s) {
				fn(s)
			}
		}
	}
}

// subscribers returns the sessions that are subscribed to a group.
func (s *shard) subscribers(group string) []*Session {
	s.round.Lock()
	var subs []subscriber
	if a := s.audience(group); a != nil {
		subs = append(subs, a.subs...)
	}
	for _, a := range s.formatAudiences(group) {
		if a.plain != nil {
			subs = append(subs, a.plain.subs...)
		}
	}
	for _, a := range s.positionAudiences(group) {
		subs = append(subs, a.subs...)
		for sub := range a.pending {
			subs = append(subs, subscriber{subscription: sub})
		}
	}
	s.round.Unlock()
	sessions := make([]*Session, len(subs))
	for i, sub := range subs {
		sessions[i] = sub.session
	}
	return sessions
}

func (s *Session) waiting() int {
	bytes, _ := s.socket.Waiting()
	return bytes
}

func (s *Session) info(waiting int) SessionInfo {
	i := SessionInfo{
		ID: s.id, Door: s.wire.door(), User: s.identity.Key, Name: s.identity.Name, Address: s.address,
		Opened: time.Unix(int64(s.opened), 0), LastRead: s.socket.LastRead(), Waiting: waiting,
	}
	// A subscription in progress holds the lock while waiting for the channel layer.
	if i.Changing = !s.mu.TryLock(); i.Changing {
		return i
	}
	defer s.mu.Unlock()
	i.Groups = make([]string, len(s.subs))
	for n, sub := range s.subs {
		i.Groups[n] = sub.group
	}
	return i
}
