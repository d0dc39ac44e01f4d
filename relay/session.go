package relay

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Session is one connected client: who it is and what it is subscribed to.
type Session struct {
	hub      *Hub
	shard    *shard
	socket   Socket
	identity Identity
	address  netip.Addr

	at         int32         // index in the shard's sessions
	opened     uint32        // Unix seconds
	seq        sequence      // of the shard's worker
	lastPing   atomic.Uint32 // seconds of Ticks
	rechecking atomic.Bool

	mu   sync.Mutex // guards subs; held while they change
	subs []*subscription
	gone bool
	slow bool // closed because it read too slowly, and counted; of the shard's worker
	// Of the reservation. With the flags above they fill four bytes, so that they cost no memory.
	ipv6Prefix uint8
	reserved   bool
	id         uint32
}

// CountRefusal counts a connection that was refused by a limit which the hub does not know.
func (h *Hub) CountRefusal() { h.stats.refused.Add(1) }

// AdmitUser reserves room for a connection of a user. The reservation goes over to the session that is opened, or is
// given back with DismissUser.
func (h *Hub) AdmitUser(id Identity) error {
	err := h.admission.user(id.Key, h.Limits())
	if err != nil {
		h.stats.refused.Add(1)
	}
	return err
}

// DismissUser gives back what AdmitUser reserved.
func (h *Hub) DismissUser(id Identity) { h.admission.releaseUser(id.Key) }

// Open makes a session of a socket whose address and user have been admitted, and takes the reservation over. Call Close on it
// when the socket is gone.
func (h *Hub) Open(socket Socket, id Identity, r *Reservation) *Session {
	r.Settle()
	number, now := h.next.Add(1), uint32(time.Now().Unix())
	s := &Session{
		hub: h, socket: socket, identity: id, address: r.Address,
		shard: h.shards[number%uint64(len(h.shards))],
		id:    uint32(number), opened: now, ipv6Prefix: r.ipv6Prefix, reserved: r.admission != nil,
	}
	r.admission = nil
	s.lastPing.Store(seconds(time.Now()))
	h.stats.sessions.Add(1)
	h.stats.byKind[id.Kind.index()].Add(1)
	h.stats.opened.Add(1)
	s.shard.add(s)
	if h.closing.Load() || h.draining.Load() { // the round of goodbyes may have missed it
		socket.Close(h.goingAway())
	}
	return s
}

// Identity is who the client is.
func (s *Session) Identity() Identity { return s.identity }

// Address is where the client is, as the proxy in front of the relay tells it.
func (s *Session) Address() netip.Addr { return s.address }

// Socket is the client's websocket.
func (s *Session) Socket() Socket { return s.socket }

// Send writes one text frame to the client alone.
func (s *Session) Send(text []byte) bool {
	frame := AppendFrame(make([]byte, 0, frameSize(len(text))), text)
	return s.socket.Send(frame, s.hub.Limits().QueuePerConnection)
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
	s.hub.admission.releaseUser(s.identity.Key)
	if s.reserved {
		s.hub.admission.releaseAddress(AddressKey(s.address, int(s.ipv6Prefix)))
	}
	s.hub.stats.sessions.Add(-1)
	s.hub.stats.byKind[s.identity.Kind.index()].Add(-1)
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
	s.hub.interest.leave(names, true)
}
