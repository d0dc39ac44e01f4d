package relay

import (
	"net/netip"
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

// translated is the well-known prefix of IPv4 addresses behind a translator (RFC 6052). The networks in it have nothing
// in common.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// AddressKey returns the address that a client at addr is counted by: addr itself for IPv4, the first ipv6Prefix bits
// for IPv6, because one host has as many IPv6 addresses as it likes. It is the zero Addr, which nothing is counted by,
// for an unknown address.
// See docs/decisions/hub.md#why-are-ipv6-clients-counted-by-64
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
