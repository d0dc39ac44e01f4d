package caddymodule

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay"
)

// Limits bound what clients may use. What is left out has its default; 0 means no limit.
type Limits struct {
	// FrameSize is the longest message from a client, in bytes; a longer one closes the connection with 1009. Default: 64 KiB.
	FrameSize *int `json:"frame_size,omitempty"`
	// GroupsPerConnection is how many groups a client may be subscribed to. Default: 100.
	GroupsPerConnection *int `json:"groups_per_connection,omitempty"`
	// SubscribeRate is how many messages a client may send a second; five seconds' worth may come at once. Default: 20.
	SubscribeRate *float64 `json:"subscribe_rate,omitempty"`
	// ConnectionsPerUser bounds the open connections of one user. Default: 100.
	ConnectionsPerUser *int `json:"connections_per_user,omitempty"`
	// ConnectionsPerAddress bounds the open connections from one address. Default: 20000.
	ConnectionsPerAddress *int `json:"connections_per_address,omitempty"`
	// PendingPerAddress bounds the handshakes from one address whose client is not known yet, because auth has not
	// answered. Each takes some 40 KiB. More are answered with 429. Default: 1024.
	PendingPerAddress *int `json:"pending_per_address,omitempty"`
	// IPv6Prefix is how many leading bits of an IPv6 address count as one address for these limits, 1 to 128. Logs and
	// the admin API show whole addresses. Default: 64, which is what one host or household has at least.
	IPv6Prefix *int `json:"ipv6_prefix,omitempty"`
	// Connections bounds all open connections. Default: 100000. File descriptors (RLIMIT_NOFILE) bound them, too: some are kept for all that is no websocket.
	Connections *int `json:"connections,omitempty"`
	// QueuePerConnection is how many bytes may wait for a client that reads slowly; more closes it with 1008. Default: 1 MiB.
	QueuePerConnection *int `json:"queue_per_connection,omitempty"`
	// QueueTotal is how many bytes may wait for all of them together; more closes those for which the most waits, with 1008. A text that
	// waits for several counts for each, so that this says little about memory, by which readers are closed anyway where GOMEMLIMIT or a
	// container's limit is set. Default: no limit.
	QueueTotal *int `json:"queue_total,omitempty"`
	// Ping is the time between pings. Default: 20s.
	Ping *caddy.Duration `json:"ping,omitempty"`
	// Silence is how long a client may send nothing, not even answers to pings. Default: 40s.
	Silence *caddy.Duration `json:"silence,omitempty"`
}

// apply returns the limits with the defaults where nothing is set.
func (l *Limits) apply() (relay.Limits, error) {
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

// unmarshal reads
//
//	limits {
//		frame_size              <size>
//		groups_per_connection   <number>
//		subscribe_rate          <messages a second>
//		connections_per_user    <number>
//		connections_per_address <number>
//		connections             <number>
//		pending_per_address     <number>
//		ipv6_prefix             <bits>
//		queue_per_connection    <size>
//		queue_total             <size>
//		ping                    <duration>
//		silence                 <duration>
//	}
func (l *Limits) unmarshal(d *caddyfile.Dispenser) error {
	counts := map[string]**int{
		"groups_per_connection":   &l.GroupsPerConnection,
		"connections_per_user":    &l.ConnectionsPerUser,
		"connections_per_address": &l.ConnectionsPerAddress,
		"connections":             &l.Connections,
		"pending_per_address":     &l.PendingPerAddress,
		"ipv6_prefix":             &l.IPv6Prefix,
	}
	sizes := map[string]**int{"frame_size": &l.FrameSize, "queue_per_connection": &l.QueuePerConnection, "queue_total": &l.QueueTotal}
	times := map[string]**caddy.Duration{"ping": &l.Ping, "silence": &l.Silence}
	for d.NextBlock(1) {
		name := d.Val()
		var value string
		if !d.AllArgs(&value) {
			return d.Errf("limits: %s takes one value", name)
		}
		var err error
		if to, ok := counts[name]; ok {
			var n int
			n, err = strconv.Atoi(value)
			*to = &n
		} else if to, ok := sizes[name]; ok {
			limit := int64(settings.MaxBuffer)
			if name == "queue_total" {
				limit = settings.MaxSize
			}
			var size int64
			size, err = settings.Size(value, limit)
			n := int(size)
			*to = &n
		} else if to, ok := times[name]; ok {
			var t caddy.Duration
			t, err = settings.Duration(value)
			*to = &t
		} else if name == "subscribe_rate" {
			var rate float64
			if rate, err = strconv.ParseFloat(value, 64); !(rate >= 0 && rate <= math.MaxInt32) { // JSON knows neither NaN nor infinity
				return d.Errf("limits: subscribe_rate is a number of messages a second, or 0 for no limit, not %q", value)
			}
			l.SubscribeRate = &rate
		} else {
			return d.Errf("there is no limit %q; there are frame_size, groups_per_connection, subscribe_rate, connections_per_user, connections_per_address, connections, pending_per_address, ipv6_prefix, queue_per_connection, queue_total, ping and silence", name)
		}
		if err != nil {
			return d.Errf("limits: %s %s: %v", name, value, err)
		}
	}
	return nil
}
