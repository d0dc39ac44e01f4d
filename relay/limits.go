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
		QueuePerConnection:    1 << 20,
		Ping:                  20 * time.Second,
		Silence:               40 * time.Second,
	}
}

// Refusals of a new connection.
var (
	ErrTooManyConnections = errors.New("the relay holds as many connections as it may")
	ErrTooManyFromAddress = errors.New("too many connections from this address")
	ErrTooManyOfUser      = errors.New("too many connections of this user")
)

// admission counts open connections by address and user.
type admission struct {
	mu        sync.Mutex
	total     int
	byAddress map[netip.Addr]int
	byUser    map[string]int
}

// address admits one more connection from addr, to be given back with releaseAddress.
func (a *admission) address(addr netip.Addr, l *Limits) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.Connections > 0 && a.total >= l.Connections {
		return ErrTooManyConnections
	}
	if l.ConnectionsPerAddress > 0 && a.byAddress[addr] >= l.ConnectionsPerAddress {
		return ErrTooManyFromAddress
	}
	a.total++
	a.byAddress[addr]++
	return nil
}

func (a *admission) releaseAddress(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	release(a.byAddress, addr)
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
