package caddymodule

import (
	"errors"
	"math"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/relay"
)

// Limits bound what clients may use. What is left out has its default; 0 means no limit.
type Limits struct {
	// FrameSize is the longest message from a client, in bytes; a longer one closes the connection with 1009. Default: 64 KiB.
	FrameSize *int `json:"frame_size,omitempty" caddyfile:"<size>"`
	// GroupsPerConnection is how many groups a client may be subscribed to. Default: 100.
	GroupsPerConnection *int `json:"groups_per_connection,omitempty" caddyfile:"<number>"`
	// SubscribeRate is how many messages a client may send a second; five seconds' worth may come at once. Default: 20.
	SubscribeRate *float64 `json:"subscribe_rate,omitempty" caddyfile:"<messages a second>"`
	// ConnectionsPerUser bounds the open connections of one user. Default: 100.
	ConnectionsPerUser *int `json:"connections_per_user,omitempty" caddyfile:"<number>"`
	// ConnectionsPerAddress bounds the open connections from one address. Default: 20000.
	ConnectionsPerAddress *int `json:"connections_per_address,omitempty" caddyfile:"<number>"`
	// PendingPerAddress bounds the handshakes from one address whose client is not known yet, because auth has not
	// answered. Each takes some 40 KiB. More are answered with 429. Default: 1024.
	PendingPerAddress *int `json:"pending_per_address,omitempty" caddyfile:"<number>"`
	// IPv6Prefix is how many leading bits of an IPv6 address count as one address for these limits, 1 to 128. Logs and
	// the admin API show whole addresses. Default: 64, which is what one host or household has at least.
	IPv6Prefix *int `json:"ipv6_prefix,omitempty" caddyfile:"<bits>"`
	// Connections bounds all open connections. Default: 100000. File descriptors (RLIMIT_NOFILE) bound them, too: some are kept for all that is no websocket.
	Connections *int `json:"connections,omitempty" caddyfile:"<number>"`
	// QueuePerConnection is how many bytes may wait for a client that reads slowly; more closes it with 1008. Default: 1 MiB.
	QueuePerConnection *int `json:"queue_per_connection,omitempty" caddyfile:"<size>"`
	// QueueTotal is how many bytes may wait for all of them together; more closes those for which the most waits, with 1008. A text that
	// waits for several counts for each, so that this says little about memory, by which readers are closed anyway where GOMEMLIMIT or a
	// container's limit is set. Default: no limit.
	QueueTotal *int `json:"queue_total,omitempty" caddyfile:"<size>" max:"1EiB"`
	// Ping is the time between pings. Default: 20s.
	Ping *caddy.Duration `json:"ping,omitempty" caddyfile:"<duration>"`
	// Silence is how long a client may send nothing, not even answers to pings. Default: 40s.
	Silence *caddy.Duration `json:"silence,omitempty" caddyfile:"<duration>"`
}

// apply returns the limits with the defaults where nothing is set.
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
	if r.Ping < 0 || r.Silence < 0 {
		return r, errors.New("edgerelay: limits: ping and silence are durations, or 0 for none")
	}
	if r.Silence > 0 && (r.Ping == 0 || r.Silence <= r.Ping) {
		return r, errors.New("edgerelay: limits: silence must be longer than ping, or clients that answer every ping are taken for dead")
	}
	if !(r.SubscribeRate >= 0 && r.SubscribeRate <= math.MaxInt32) {
		return r, errors.New("edgerelay: limits: subscribe_rate is a number of messages a second, or 0 for no limit")
	}
	if r.IPv6Prefix < 1 || r.IPv6Prefix > 128 {
		return r, errors.New("edgerelay: limits: ipv6_prefix must be 1 to 128, such as 64")
	}
	for _, n := range []int{
		r.GroupsPerConnection, r.ConnectionsPerUser, r.ConnectionsPerAddress, r.Connections, r.PendingPerAddress,
		r.QueuePerConnection, r.QueueTotal,
	} {
		if n < 0 {
			return r, errors.New("edgerelay: limits: a limit is a positive number, or 0 for none")
		}
	}
	return r, nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
