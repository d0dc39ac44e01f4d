package hub

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Session is a client: the user, the socket and the subscriptions. It implements [relay.Session].
type Session struct {
	shard    *shard
	socket   relay.Socket
	identity relay.Identity
	address  netip.Addr

	at       int32         // index in the shard's sessions
	opened   uint32        // Unix seconds
	seq      sequence      // belongs to the shard's worker
	lastPing atomic.Uint32 // seconds of Ticks
	id       uint32

	mu        sync.Mutex // guards subs, closed and revoked; held during a subscription
	subs      []*subscription
	login     *login // nil without rechecks; guarded by rechecks.mu, as is dismissed
	closed    bool
	revoked   bool // a recheck has ended subscriptions since the client's last message
	slow      bool // counted as a slow consumer; belongs to the shard's worker
	dismissed bool // closed by a recheck
	// positioned is set for a client that gets positions. It does not change after the first subscription.
	positioned bool
	// From the reservation. With the flags above they fill eight bytes.
	ipv6Prefix uint8
	reserved   bool
}

var _ relay.Session = (*Session)(nil)

// Open makes a socket a session that no limit counts, for clients of the process's own and for tests. Sessions of other
// clients begin with [Hub.Admit].
func (h *Hub) Open(socket relay.Socket, id relay.Identity, address netip.Addr) *Session {
	return h.open(&Session{socket: socket, identity: id, address: address})
}

// open starts a session.
func (h *Hub) open(s *Session) *Session {
	number, now := h.next.Add(1), time.Now()
	s.shard = h.shards[number%uint64(len(h.shards))]
	s.id, s.opened = uint32(number), uint32(now.Unix())
	s.lastPing.Store(seconds(now))
	h.stats.sessions.Add(1)
	h.stats.byKind[kindIndex(s.identity.Kind)].Add(1)
	h.stats.opened.Add(1)
	s.shard.add(s)
	if h.recheck.Load() > 0 || !endOf(s.identity).IsZero() {
		h.rechecks.add(s, now)
	}
	if h.closing.Load() || h.draining.Load() { // the list of clients to evict may lack this session
		s.socket.Close(h.goingAway())
	}
	return s
}

// Identity implements [relay.Session].
func (s *Session) Identity() relay.Identity { return s.identity }

// Address implements [relay.Session].
func (s *Session) Address() netip.Addr { return s.address }

// Socket implements [relay.Session].
func (s *Session) Socket() relay.Socket { return s.socket }

// Limits implements [relay.Session].
func (s *Session) Limits() *relay.Limits { return s.shard.hub.Limits() }

// Send implements [relay.Session].
func (s *Session) Send(text []byte) bool {
	frame := relay.AppendFrame(make([]byte, 0, relay.FrameSize(len(text))), text)
	return s.socket.Send(frame, s.shard.hub.Limits().QueuePerConnection)
}

// SendChange implements [relay.Session].
func (s *Session) SendChange(change relay.Change, encode func(relay.Change) []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revoked {
		held := s.heldGroups()
		lost := func(group string) bool { return !held[group] }
		change.Current = slices.DeleteFunc(slices.Clone(change.Current), lost)
		change.Joined = slices.DeleteFunc(slices.Clone(change.Joined), lost)
	}
	if s.positioned {
		return s.shard.begin(s, encode(change))
	}
	return s.Send(encode(change))
}

// revoke ends subscriptions that the user may no longer have, and tells the client.
func (s *Session) revoke(groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(groups)
}

// end is revoke with s.mu held.
func (s *Session) end(groups []string) {
	var change relay.Change
	var kept, left []*subscription
	for _, sub := range s.subs {
		if slices.Contains(groups, sub.group) {
			left = append(left, sub)
			change.Left = append(change.Left, sub.group)
		} else {
			kept = append(kept, sub)
			change.Current = append(change.Current, sub.group)
		}
	}
	if len(left) == 0 || s.closed {
		return
	}
	h := s.shard.hub
	s.drop(left)
	s.subs, s.revoked = kept, true
	h.stats.revoked.Add(uint64(len(left)))
	if p := h.protocol.Load(); p != nil {
		s.Send((*p).EncodeChange(change))
	}
}

// Close implements [relay.Session]: it ends all subscriptions and returns the reservations.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.drop(s.subs)
	s.subs = nil
	s.shard.remove(s)
	h := s.shard.hub
	h.rechecks.remove(s)
	if s.reserved {
		h.admission.releaseUser(s.identity.Key)
		h.admission.releaseAddress(relay.AddressKey(s.address, int(s.ipv6Prefix)))
	}
	h.stats.sessions.Add(-1)
	h.stats.byKind[kindIndex(s.identity.Kind)].Add(-1)
	if s.positioned {
		h.resumes.clients.Add(-1)
	}
}

// drop ends subscriptions. s.mu is held.
func (s *Session) drop(subs []*subscription) {
	if len(subs) == 0 {
		return
	}
	names := make([]string, len(subs))
	for i, sub := range subs {
		s.shard.unsubscribe(sub)
		names[i] = sub.group
	}
	s.shard.hub.interest.leave(names, true)
}
