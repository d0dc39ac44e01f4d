package hub

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/edgerelay/edgerelay/relay"
)

// Errors of [Hub.Admit] and [Reservation.Identify] besides [ErrDraining] and [ErrNoMemory].
var (
	ErrTooManyConnections = errors.New("too many connections")
	ErrTooManyFromAddress = errors.New("too many connections from this address")
	ErrTooManyPending     = errors.New("too many pending handshakes from this address")
	ErrTooManyOfUser      = errors.New("too many connections of this user")
)

// Reservation is capacity for one connection, held from the handshake on. Identify, then Open, turn it into a session;
// Release returns the capacity. A Reservation is not safe for concurrent use.
type Reservation struct {
	// Address is the client's, the zero Addr if unknown.
	Address netip.Addr
	// Door is the way by which the client comes; it counts when the session opens.
	Door relay.Door

	hub        *Hub
	identity   relay.Identity
	ipv6Prefix uint8 // for the address's key: the setting may change before the reservation ends
	state      reservationState
}

// reservationState is the capacity that a reservation holds.
type reservationState uint8

const (
	reservedPending reservationState = iota // a connection from an address, counted as a pending handshake
	reservedAddress                         // the same, no longer pending
	reservedUser                            // the same, and a connection of a user
	reservedNothing                         // released, or transferred to a session
)

// Admit reserves capacity for a connection from address, before anything else is known of the client. The error is from
// this package, or [relay.ErrClosed].
func (h *Hub) Admit(address netip.Addr) (*Reservation, error) {
	limits := h.Limits()
	var err error
	switch {
	case h.closing.Load():
		return nil, relay.ErrClosed
	case h.draining.Load():
		err = ErrDraining
	case h.short.Load():
		err = ErrNoMemory
	default:
		err = h.admission.reserveAddress(relay.AddressKey(address, limits.IPv6Prefix), limits)
	}
	if err != nil {
		if !errors.Is(err, ErrTooManyPending) {
			h.CountRejection()
		}
		return nil, err
	}
	return &Reservation{Address: address, hub: h, ipv6Prefix: uint8(limits.IPv6Prefix)}, nil
}

// CountRejection counts a connection that was rejected by a limit outside the hub.
func (h *Hub) CountRejection() { h.stats.rejected.Add(1) }

// EndHandshake stops counting the reservation as a pending handshake. Call it after the client's authentication.
func (r *Reservation) EndHandshake() {
	if r.state == reservedPending {
		r.state = reservedAddress
		r.hub.admission.endPending(r.addressKey())
	}
}

// Identify ends the handshake and reserves capacity for a connection of the user. With an error, which is
// [ErrTooManyOfUser], the reservation is still to be released.
func (r *Reservation) Identify(id relay.Identity) error {
	r.EndHandshake()
	if err := r.hub.admission.reserveUser(id.Key, r.hub.Limits()); err != nil {
		r.hub.CountRejection()
		return err
	}
	r.identity, r.state = id, reservedUser
	return nil
}

// Identity returns the user that Identify was called with.
func (r *Reservation) Identity() relay.Identity { return r.identity }

// Open makes an identified client's socket a session, which takes over the reservation. The caller closes the session
// when the connection has ended.
func (r *Reservation) Open(socket relay.Socket) *Session { return r.OpenAs(socket, nil) }

// OpenAs is Open for a client that gets events and the engine's own messages in a format; nil is the hub's Protocol.
func (r *Reservation) OpenAs(socket relay.Socket, format relay.Format) *Session {
	if r.state != reservedUser {
		panic("hub: Open of a reservation that is not identified")
	}
	r.state = reservedNothing
	return r.hub.open(&Session{
		socket: socket, format: format, identity: r.identity, address: r.Address, ipv6Prefix: r.ipv6Prefix, reserved: true,
		wire: wire(r.Door),
	})
}

// Release returns whatever is still reserved.
func (r *Reservation) Release() {
	r.EndHandshake()
	if r.state == reservedUser {
		r.hub.admission.releaseUser(r.identity.Key)
	}
	if r.state != reservedNothing {
		r.hub.admission.releaseAddress(r.addressKey())
	}
	r.state = reservedNothing
}

func (r *Reservation) addressKey() netip.Addr { return relay.AddressKey(r.Address, int(r.ipv6Prefix)) }

// admission counts open connections by address and user.
// See docs/decisions/hub.md#why-may-1024-handshakes-of-one-address-be-pending
type admission struct {
	mu        sync.Mutex // guards all below
	total     int
	byAddress map[netip.Addr]int // by AddressKey; the zero Addr, for unknown addresses, is not counted
	pending   map[netip.Addr]int // handshakes, likewise
	byUser    map[string]int     // by Identity.Key; the empty key is not counted
}

func newAdmission() admission {
	return admission{byAddress: map[netip.Addr]int{}, pending: map[netip.Addr]int{}, byUser: map[string]int{}}
}

// reserveAddress counts a connection, and a pending handshake, from an address.
func (a *admission) reserveAddress(key netip.Addr, l *relay.Limits) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.Connections > 0 && a.total >= l.Connections {
		return ErrTooManyConnections
	}
	if key.IsValid() {
		switch {
		case l.ConnectionsPerAddress > 0 && a.byAddress[key] >= l.ConnectionsPerAddress:
			return ErrTooManyFromAddress
		case l.PendingPerAddress > 0 && a.pending[key] >= l.PendingPerAddress:
			return ErrTooManyPending
		}
		a.byAddress[key]++
		a.pending[key]++
	}
	a.total++
	return nil
}

func (a *admission) endPending(key netip.Addr) {
	if key.IsValid() {
		a.mu.Lock()
		defer a.mu.Unlock()
		decrement(a.pending, key)
	}
}

func (a *admission) releaseAddress(key netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if key.IsValid() {
		decrement(a.byAddress, key)
	}
}

func (a *admission) reserveUser(key string, l *relay.Limits) error {
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
	decrement(a.byUser, key)
}

// decrement subtracts 1 from the count of a key, and deletes a key with the count 0.
func decrement[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}
