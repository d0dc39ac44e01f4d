package hub

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/edgerelay/edgerelay/relay"
)

// Refusals of a new connection.
var (
	ErrTooManyConnections = errors.New("the relay holds as many connections as it may")
	ErrTooManyFromAddress = errors.New("too many connections from this address")
	ErrTooManyPending     = errors.New("too many pending handshakes from this address")
	ErrTooManyOfUser      = errors.New("too many connections of this user")
)

// Reservation is room for one connection, from its handshake on. It goes over to the session that is opened, or is
// given back with Release. It is for one goroutine.
type Reservation struct {
	// Address is the client's, the zero Addr if it is unknown.
	Address netip.Addr

	admission  *admission // nil once the room has gone over to a session, or back
	ipv6Prefix uint8      // that the address was counted by
	pending    bool
}

// Admit reserves room for a connection from address, before anything else is known of it. The error is one of this
// package's refusals or ErrClosed.
func (h *Hub) Admit(address netip.Addr) (*Reservation, error) {
	if h.closing.Load() {
		return nil, relay.ErrClosed
	}
	var r *Reservation
	var err error
	switch {
	case h.draining.Load():
		err = ErrDraining
	case h.short.Load():
		err = ErrNoMemory
	default:
		r, err = h.admission.reserve(address, h.Limits())
	}
	if err != nil && !errors.Is(err, ErrTooManyPending) {
		h.stats.refused.Add(1)
	}
	return r, err
}

// Settle ends the time in which the reservation counts as a pending handshake: the client is known.
func (r *Reservation) Settle() {
	if r.admission != nil && r.pending {
		r.pending = false
		r.admission.settle(relay.AddressKey(r.Address, int(r.ipv6Prefix)))
	}
}

// Release gives the room back, if that has not been done.
func (r *Reservation) Release() {
	r.Settle()
	if r.admission != nil {
		r.admission.releaseAddress(relay.AddressKey(r.Address, int(r.ipv6Prefix)))
		r.admission = nil
	}
}

// admission counts open connections by address and user.
type admission struct {
	mu        sync.Mutex
	total     int
	byAddress map[netip.Addr]int // by AddressKey
	pending   map[netip.Addr]int // the same, of handshakes
	byUser    map[string]int
}

func newAdmission() admission {
	return admission{byAddress: map[netip.Addr]int{}, pending: map[netip.Addr]int{}, byUser: map[string]int{}}
}

// reserve admits one more connection from addr.
func (a *admission) reserve(addr netip.Addr, l *relay.Limits) (*Reservation, error) {
	key := relay.AddressKey(addr, l.IPv6Prefix)
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.Connections > 0 && a.total >= l.Connections {
		return nil, ErrTooManyConnections
	}
	if key.IsValid() {
		switch {
		case l.ConnectionsPerAddress > 0 && a.byAddress[key] >= l.ConnectionsPerAddress:
			return nil, ErrTooManyFromAddress
		case l.PendingPerAddress > 0 && a.pending[key] >= l.PendingPerAddress:
			return nil, ErrTooManyPending
		}
		a.byAddress[key]++
		a.pending[key]++
	}
	a.total++
	return &Reservation{Address: addr, admission: a, ipv6Prefix: uint8(l.IPv6Prefix), pending: true}, nil
}

// settle notes that a handshake from an address is no longer pending.
func (a *admission) settle(key netip.Addr) {
	if key.IsValid() {
		a.mu.Lock()
		defer a.mu.Unlock()
		release(a.pending, key)
	}
}

func (a *admission) releaseAddress(key netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if key.IsValid() {
		release(a.byAddress, key)
	}
}

// user admits one more connection of a user, to be given back with releaseUser. The empty key is nobody in particular.
func (a *admission) user(key string, l *relay.Limits) error {
	if key == "" {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.ConnectionsPerUser > 0 && a.byUser[key] >= l.ConnectionsPerUser {
		return ErrTooManyOfUser
	}
	a.byUser[key]++
	return nil
}

func (a *admission) releaseUser(key string) {
	if key == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	release(a.byUser, key)
}

func release[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}
