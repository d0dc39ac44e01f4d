package hub

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Session is one connected client: who it is and what it is subscribed to.
type Session struct {
	shard    *shard
	socket   relay.Socket
	identity relay.Identity
	address  netip.Addr

	at       int32         // index in the shard's sessions
	opened   uint32        // Unix seconds
	seq      sequence      // of the shard's worker
	lastPing atomic.Uint32 // seconds of Ticks
	id       uint32

	mu        sync.Mutex // guards subs, gone and revoked; held while subs change
	subs      []*subscription
	login     *login // nil if it is not checked again; guarded by Hub.rechecks, as is dismissed
	gone      bool
	revoked   bool // a recheck has ended subscriptions since the client's last message
	slow      bool // closed because it read too slowly, and counted; of the shard's worker
	dismissed bool // closed by a recheck
	// Of the reservation. With the flags above they fill eight bytes.
	ipv6Prefix uint8
	reserved   bool
}

// CountRefusal counts a connection that was refused by a limit which the hub does not know.
func (h *Hub) CountRefusal() { h.stats.refused.Add(1) }

// AdmitUser reserves room for a connection of a user. The reservation goes over to the session that is opened, or is
// given back with DismissUser.
func (h *Hub) AdmitUser(id relay.Identity) error {
	err := h.admission.user(id.Key, h.Limits())
	if err != nil {
		h.stats.refused.Add(1)
	}
	return err
}

// DismissUser gives back what AdmitUser reserved.
func (h *Hub) DismissUser(id relay.Identity) { h.admission.releaseUser(id.Key) }

// Open makes a session of a socket whose address and user have been admitted, and takes the reservation over. Call
// Close on it when the socket is gone.
func (h *Hub) Open(socket relay.Socket, id relay.Identity, r *Reservation) *Session {
	r.Settle()
	number, now := h.next.Add(1), uint32(time.Now().Unix())
	s := &Session{
		socket: socket, identity: id, address: r.Address,
		shard: h.shards[number%uint64(len(h.shards))],
		id:    uint32(number), opened: now, ipv6Prefix: r.ipv6Prefix, reserved: r.admission != nil,
	}
	r.admission = nil
	s.lastPing.Store(seconds(time.Now()))
	h.stats.sessions.Add(1)
	h.stats.byKind[kindIndex(id.Kind)].Add(1)
	h.stats.opened.Add(1)
	s.shard.add(s)
	if h.recheck.Load() > 0 || !endOf(id).IsZero() {
		h.rechecks.add(s, time.Now())
	}
	if h.closing.Load() || h.draining.Load() { // the round of goodbyes may have missed it
		socket.Close(h.goingAway())
	}
	return s
}

// Identity is who the client is.
func (s *Session) Identity() relay.Identity { return s.identity }

// Address is where the client is, as the proxy in front of the relay tells it.
func (s *Session) Address() netip.Addr { return s.address }

// Socket is the client's websocket.
func (s *Session) Socket() relay.Socket { return s.socket }

// Send writes one text frame to the client alone.
func (s *Session) Send(text []byte) bool {
	frame := relay.AppendFrame(make([]byte, 0, relay.FrameSize(len(text))), text)
	return s.socket.Send(frame, s.shard.hub.Limits().QueuePerConnection)
}

// SendChange tells the client what a message of its changed: change, without what a recheck has taken away meanwhile
// and told it of.
func (s *Session) SendChange(change relay.Change, encode func(relay.Change) []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revoked {
		held := make(map[string]bool, len(s.subs))
		for _, sub := range s.subs {
			held[sub.group] = true
		}
		lost := func(group string) bool { return !held[group] }
		change.Current = slices.DeleteFunc(slices.Clone(change.Current), lost)
		change.Joined = slices.DeleteFunc(slices.Clone(change.Joined), lost)
	}
	return s.Send(encode(change))
}

// revoke ends subscriptions that the client may not have any more, and tells it.
func (s *Session) revoke(groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	if len(left) == 0 || s.gone {
		return
	}
	h := s.shard.hub
	s.drop(left)
	s.subs, s.revoked = kept, true
	h.stats.revoked.Add(uint64(len(left)))
	if encode := h.changeFrame.Load(); encode != nil {
		s.Send((*encode)(change))
	}
}

// Close ends all subscriptions, gives back the reservations and forgets the session. It does not close the socket.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	s.gone = true
	s.drop(s.subs)
	s.subs = nil
	s.shard.remove(s)
	h := s.shard.hub
	h.rechecks.remove(s)
	h.admission.releaseUser(s.identity.Key)
	if s.reserved {
		h.admission.releaseAddress(relay.AddressKey(s.address, int(s.ipv6Prefix)))
	}
	h.stats.sessions.Add(-1)
	h.stats.byKind[kindIndex(s.identity.Kind)].Add(-1)
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
