package hub

import (
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Session is a client: the user, the socket and the subscriptions. It implements [relay.Session].
type Session struct {
	shard    *shard
	socket   relay.Socket
	format   relay.Format // nil for clients of the hub's Protocol
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
	wire       wire
	// From the reservation. With the fields above they fill eight bytes.
	ipv6Prefix uint8
	reserved   bool
}

// wire is the door of a client, and in the highest bit whether the client has agreed on compression.
type wire uint8

const deflatingWire wire = 1 << 7

func (w wire) door() relay.Door { return relay.Door(w &^ deflatingWire) }

func (w wire) deflates() bool { return w&deflatingWire != 0 }

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
	if d, ok := s.socket.(relay.Deflater); ok && d.Deflates() {
		s.wire |= deflatingWire
		h.stats.deflating.Add(1)
	}
	s.lastPing.Store(seconds(now))
	h.stats.sessions.Add(1)
	h.stats.byKind[kindIndex(s.identity.Kind)].Add(1)
	h.stats.opened.Add(1)
	h.stats.byDoor[s.wire.door()].Add(1)
	h.stats.openedByDoor[s.wire.door()].Add(1)
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

// Sender implements [relay.Session].
func (s *Session) Sender() string { return s.shard.hub.sender + strconv.FormatUint(uint64(s.id), 36) }

// Socket implements [relay.Session].
func (s *Session) Socket() relay.Socket { return s.socket }

// Limits implements [relay.Session].
func (s *Session) Limits() *relay.Limits { return s.shard.hub.Limits() }

// Send implements [relay.Session].
func (s *Session) Send(text []byte) bool {
	frame := relay.AppendFrame(make([]byte, 0, relay.FrameSize(len(text))), text)
	return relay.SendAnswer(s.socket, frame, s.shard.hub.Limits().QueuePerConnection)
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
	text := encode(change)
	return text == nil || s.Send(text)
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
	if p := s.protocol(); p != nil {
		if text := p.EncodeChange(change); text != nil {
			s.Send(text)
		}
	}
	f, ok := s.format.(relay.RightsFormat)
	switch {
	case s.format != nil && len(kept) == 0: // its groups are all that such a client is connected for
		s.socket.Close(relay.ClosePolicy, "access has been withdrawn")
	case ok && f.NeedsAllGroups():
		s.socket.Close(relay.CloseRestart, "rights have changed")
	}
}

// protocol returns the encoding of the engine's own messages to the client, nil if there is none.
func (s *Session) protocol() relay.Protocol {
	if s.format != nil {
		return s.format
	}
	if p := s.shard.hub.protocol.Load(); p != nil {
		return *p
	}
	return nil
}

// endLogin closes the client's socket after the end of the login.
func (s *Session) endLogin() {
	if p := s.protocol(); p != nil {
		p.EndLogin(s.socket)
		return
	}
	s.socket.Close(relay.CloseNormal, "")
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
	h.stats.byDoor[s.wire.door()].Add(-1)
	if s.positioned {
		h.resumes.clients.Add(-1)
	}
	if s.wire.deflates() {
		h.stats.deflating.Add(-1)
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
	if f, ok := s.format.(relay.SubscriptionFormat); ok {
		f.Unsubscribed(s, names)
	}
	s.shard.hub.interest.leave(names, true)
}
