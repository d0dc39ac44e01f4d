package relay

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Limits bound what one client, one user and all of them together may use. A zero count means no limit.
type Limits struct {
	// FrameSize is the greatest length in bytes of a message from a client; a longer one closes the connection with 1009.
	FrameSize int
	// GroupsPerConnection is how many groups a client may be subscribed to at once.
	GroupsPerConnection int
	// SubscribeRate is how many messages a second a client may send; five seconds' worth may come at once.
	SubscribeRate float64
	// ConnectionsPerUser and ConnectionsPerAddress and Connections bound open connections.
	ConnectionsPerUser    int
	ConnectionsPerAddress int
	Connections           int
	// PendingPerAddress bounds the handshakes from one address whose client is not known yet. They are part of its
	// connections.
	PendingPerAddress int
	// IPv6Prefix is how many leading bits of an IPv6 address these limits count as one address, 1 to 128.
	IPv6Prefix int
	// QueuePerConnection is how many bytes may wait for a client that reads slowly; more closes it with 1008.
	QueuePerConnection int
	// QueueTotal is how many bytes may wait for all of them together; more closes those for which the most waits, with 1008.
	// A buffer that waits for several counts for each.
	QueueTotal int
	// Ping is the time between pings to a client.
	Ping time.Duration
	// Silence is how long a client may send nothing, not even an answer to a ping, before it is taken for dead.
	Silence time.Duration
}

// DefaultLimits are the limits where nothing else is configured.
func DefaultLimits() Limits {
	return Limits{
		FrameSize:             64 << 10,
		GroupsPerConnection:   100,
		SubscribeRate:         20,
		ConnectionsPerUser:    100,
		ConnectionsPerAddress: 20_000,
		Connections:           100_000,
		PendingPerAddress:     1024,
		IPv6Prefix:            64,
		QueuePerConnection:    1 << 20,
		Ping:                  20 * time.Second,
		Silence:               40 * time.Second,
	}
}

// Refusals of a new connection.
var (
	ErrTooManyConnections = errors.New("the relay holds as many connections as it may")
	ErrTooManyFromAddress = errors.New("too many connections from this address")
	ErrTooManyPending     = errors.New("too many pending handshakes from this address")
	ErrTooManyOfUser      = errors.New("too many connections of this user")
)

// translated is the well-known prefix of IPv4 addresses behind a translator (RFC 6052). The networks in it have nothing
// in common.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// AddressKey returns the address that a client at addr is counted by: addr itself for IPv4, the first ipv6Prefix bits
// for IPv6, because one host has as many IPv6 addresses as it likes. It is the zero Addr, which nothing is counted by,
// for an unknown address.
func AddressKey(addr netip.Addr, ipv6Prefix int) netip.Addr {
	addr = addr.Unmap()
	switch {
	case !addr.Is6():
		return addr
	case translated.Contains(addr):
		b := addr.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	prefix, err := addr.Prefix(ipv6Prefix)
	if err != nil || ipv6Prefix == 0 {
		return addr.WithZone("")
	}
	return prefix.Addr()
}

// AddressText is an address for logs.
func AddressText(addr netip.Addr) string {
	if !addr.IsValid() {
		return "unknown"
	}
	return addr.String()
}

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
		return nil, ErrClosed
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
		r.admission.settle(AddressKey(r.Address, int(r.ipv6Prefix)))
	}
}

// Release gives the room back, if that has not been done.
func (r *Reservation) Release() {
	r.Settle()
	if r.admission != nil {
		r.admission.releaseAddress(AddressKey(r.Address, int(r.ipv6Prefix)))
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
func (a *admission) reserve(addr netip.Addr, l *Limits) (*Reservation, error) {
	key := AddressKey(addr, l.IPv6Prefix)
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
func (a *admission) user(key string, l *Limits) error {
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
