package relay

import (
	"net/netip"
	"time"
)

// Limits bound the resources of each client, of each user and of all clients together. A count of 0 is no limit.
type Limits struct {
	// FrameSize is the greatest length of a client's message in bytes; a longer message closes the connection with
	// 1009.
	FrameSize int
	// GroupsPerConnection is the greatest number of groups that a client may be subscribed to.
	GroupsPerConnection int
	// SubscribeRate is the number of messages that a client may send per second. Five seconds' worth may come at once.
	SubscribeRate float64
	// ConnectionsPerUser bounds the open connections of a user.
	ConnectionsPerUser int
	// ConnectionsPerAddress bounds the open connections from an address; see [AddressKey].
	ConnectionsPerAddress int
	// Connections bounds all open connections.
	Connections int
	// PendingPerAddress bounds the handshakes from an address before authentication. Pending handshakes also count as
	// connections.
	PendingPerAddress int
	// IPv6Prefix is the number of leading bits of an IPv6 address, 1 to 128, that are counted as a single address.
	IPv6Prefix int
	// QueuePerConnection is the greatest number of bytes of events queued for a client. Beyond it, queued events are
	// dropped, and a slow consumer, which takes less than these bytes within Silence, is closed with 1008. Answers to
	// the client's messages have a limit of the same size of their own.
	QueuePerConnection int
	// QueueTotal is the greatest number of bytes queued for all clients; beyond the limit, the clients with the longest
	// queues are closed with 1008. A buffer that is queued for several clients counts for each.
	QueueTotal int
	// Ping is the time between two pings to a client; 0 sends none.
	Ping time.Duration
	// Silence is the time after which a client has timed out from which nothing arrives, not even a pong, and which
	// takes none of the bytes that are queued for it, here or in the kernel.
	Silence time.Duration
}

// DefaultLimits returns the limits that apply without configuration.
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

// translated is the well-known prefix of IPv4 addresses behind a translator (RFC 6052). Networks under the prefix are
// unrelated to each other.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// AddressKey returns the address that a client at addr is counted by: addr itself for IPv4, the first ipv6Prefix bits
// for IPv6, since a host has any number of IPv6 addresses. For an unknown address, the key is the zero Addr, which no
// limit counts.
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

// AddressText returns an address for logs.
func AddressText(addr netip.Addr) string {
	if !addr.IsValid() {
		return "unknown"
	}
	return addr.String()
}
