package caddymodule

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/relay"
)

// Limits bound the resources that clients may use. 0 means no limit.
type Limits struct {
	// FrameSize is the longest message from a client, in bytes. A longer message closes the connection with 1009.
	// Default: 64 KiB.
	FrameSize *int `json:"frame_size,omitempty" caddyfile:"<size>"`
	// GroupsPerConnection is the number of groups that a client may be subscribed to. Default: 100.
	GroupsPerConnection *int `json:"groups_per_connection,omitempty" caddyfile:"<number>"`
	// SubscribeRate is the number of messages that a client may send a second. A burst may have five seconds' worth.
	// Default: 20.
	SubscribeRate *float64 `json:"subscribe_rate,omitempty" caddyfile:"<messages a second>"`
	// ConnectionsPerUser bounds the open connections of one user. Default: 100.
	ConnectionsPerUser *int `json:"connections_per_user,omitempty" caddyfile:"<number>"`
	// ConnectionsPerAddress bounds the open connections from one address. Default: 20000.
	ConnectionsPerAddress *int `json:"connections_per_address,omitempty" caddyfile:"<number>"`
	// PendingPerAddress bounds the handshakes from one address that wait for authentication. Each takes about 40 KiB.
	// Further handshakes get 429. Default: 1024.
	PendingPerAddress *int `json:"pending_per_address,omitempty" caddyfile:"<number>"`
	// IPv6Prefix is the number of leading bits of an IPv6 address, 1 to 128, that count as one address for these
	// limits. Logs and the admin API show whole addresses. Default: 64, the least that a host or household has.
	IPv6Prefix *int `json:"ipv6_prefix,omitempty" caddyfile:"<bits>"`
	// Connections bounds all open connections. Default: 100000. File descriptors (RLIMIT_NOFILE) also bound
	// connections: some are reserved for other uses.
	Connections *int `json:"connections,omitempty" caddyfile:"<number>"`
	// QueuePerConnection is the number of bytes of events that may be queued for a client. Beyond it, the queued events
	// are dropped, the client is told, and goes on with the newest. Answers to the client's own messages may take as
	// much again. A slow consumer, which takes less than these bytes within silence, is closed with 1008. At least 1 KiB.
	// Default: 1 MiB.
	QueuePerConnection *int `json:"queue_per_connection,omitempty" caddyfile:"<size>"`
	// QueueTotal is the number of bytes that may be queued for all clients. Beyond it, the clients with the longest
	// queues are closed with 1008. An event that is queued for several clients counts for each, so the total is no
	// measure of memory; a GOMEMLIMIT or a container's limit closes slow consumers in any case. Default: no limit.
	QueueTotal *int `json:"queue_total,omitempty" caddyfile:"<size>" max:"1EiB"`
	// Ping is the time between pings. Default: 20s.
	Ping *caddy.Duration `json:"ping,omitempty" caddyfile:"<duration>"`
	// Silence is the time after which a client times out that sends nothing, not even pongs, and takes none of the
	// bytes that are queued for it. The kernel ends a TCP connection after the same time
	// if the other side acknowledges nothing, or has no room for more;
	// connections that are open during a reload keep their time. Default: 40s.
	Silence *caddy.Duration `json:"silence,omitempty" caddyfile:"<duration>"`
}

// minQueue is the least size of a queue: an event and the frame of a subscription fit.
const minQueue = 1 << 10

// withDefaults checks the limits and returns them with the defaults filled in.
func (l *Limits) withDefaults() (relay.Limits, error) {
	r := relay.DefaultLimits()
	if l == nil {
		return r, nil
	}
	set(&r.FrameSize, l.FrameSize)
	set(&r.GroupsPerConnection, l.GroupsPerConnection)
	set(&r.SubscribeRate, l.SubscribeRate)
	set(&r.ConnectionsPerUser, l.ConnectionsPerUser)
	set(&r.ConnectionsPerAddress, l.ConnectionsPerAddress)
	set(&r.Connections, l.Connections)
	set(&r.PendingPerAddress, l.PendingPerAddress)
	set(&r.IPv6Prefix, l.IPv6Prefix)
	set(&r.QueuePerConnection, l.QueuePerConnection)
	set(&r.QueueTotal, l.QueueTotal)
	set(&r.Ping, (*time.Duration)(l.Ping))
	set(&r.Silence, (*time.Duration)(l.Silence))
	if r.FrameSize <= 0 {
		return r, errors.New("edgerelay: limits: frame_size must be above 0")
	}
	for _, queue := range []struct {
		name string
		size int
	}{{"queue_per_connection", r.QueuePerConnection}, {"queue_total", r.QueueTotal}} {
		if queue.size > 0 && queue.size < minQueue {
			return r, fmt.Errorf("edgerelay: limits: %s: %d bytes hold no event; use at least 1KiB, or 0 for no limit",
				queue.name, queue.size)
		}
	}
	if r.Silence > 0 && (r.Ping == 0 || r.Silence <= r.Ping) {
		return r, errors.New("edgerelay: limits: silence must be longer than ping, " +
			"or clients that answer every ping time out")
	}
	if r.IPv6Prefix < 1 || r.IPv6Prefix > 128 {
		return r, errors.New("edgerelay: limits: ipv6_prefix must be 1 to 128, such as 64")
	}
	return r, nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
