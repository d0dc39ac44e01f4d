package telemetry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/internal/lanes"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// collector shows a node's figures to Prometheus. docs/observability.md lists them; a test compares it with what is here.
type collector struct{ node *node.Node }

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("edgerelay_"+name, help, labels, nil)
	Descs = append(Descs, d)
	return d
}

// descs are all there are.
var Descs []*prometheus.Desc

var (
	descBuild       = desc("build_info", "1, with the version of the relay and of Go.", "version", "go")
	descConnections = desc("connections", "Open websocket connections.")
	descSessions    = desc("sessions", "Open websocket connections by kind of user: user, superuser, auditor, or anybody with auth none.", "user")
	descGroups      = desc("groups", "Groups with a local subscription.")
	descOpened      = desc("connections_opened_total", "Websocket connections opened.")
	descEnded       = desc("connections_ended_total", "Connections that the relay rejected or ended, by reason.", "reason")
	descMessages    = desc("client_messages_total", "Messages from clients by result.", "result")
	descSubscribed  = desc("subscriptions_total", "Groups that clients requested, by result.", "result")

	descEvents     = desc("events_total", "Events that reached this node, by source.", "source")
	descFanned     = desc("events_fanned_out_total", "Events that were queued for at least one client.")
	descDropped    = desc("events_dropped_total", "Events that no local client received, by reason.", "reason")
	descDeliveries = desc("deliveries_total", "Events written to client sockets.")
	descMissed     = desc("deliveries_missed_total", "Events that a subscribed client did not receive, by reason.", "reason")
	descBytes      = desc("delivered_bytes_total", "Bytes of frames written to client sockets.")
	descLag        = desc("delivery_lag_seconds", "Time from an event's publication, by the emitter's clock, to the write to its clients' sockets.")
	descSkewed     = desc("delivery_clock_skew_total", "Deliveries before the event's publication, because the emitter's clock is ahead. The lag counts them in its lowest bucket.")
	descShardQueue = desc("shard_queue_bytes", "Bytes of frames queued for a shard's worker.", "shard")
	descLosses     = desc("losses_total", "Incidents in which clients missed events, or may have missed events, by cause.", "cause")
	descLost       = desc("lost_events_total", "Events that clients missed, where the number is known, by cause.", "cause")
	descSlow       = desc("slow_sockets", "Full sockets, whose clients have queued events.")
	descSlowBytes  = desc("slow_socket_bytes", "Bytes queued for slow consumers.")
	descSlowMost   = desc("slow_socket_most_bytes", "Bytes queued for the slowest consumer.")

	descLayerUp     = desc("channel_layer_up", "1 while the channel layer is reachable and all groups are joined.")
	descReconnects  = desc("channel_layer_reconnects_total", "Reconnects to the channel layer.")
	descRepairs     = desc("channel_layer_repairs_total", "Group memberships restored.")
	descGaps        = desc("channel_layer_gaps_total", "Incidents in which the channel layer lost events, or may have lost events.")
	descTrips       = desc("channel_layer_round_trips_total", "Round trips to the channel layer; a pipeline of commands counts once.")
	descTripTime    = desc("channel_layer_round_trip_seconds_total", "Total duration of round trips to the channel layer.")
	descUndecodable = desc("channel_layer_undecodable_total", "Messages skipped because they could not be decoded.")
	descIgnored     = desc("channel_layer_ignored_total", "Messages of a type that the relay does not deliver.")
	descFaulty      = desc("channel_layer_faulty_groups", "Groups that cannot be joined in a healthy layer, because their keys hold another type.")
	descHealed      = desc("channel_layer_healed_keys_total", "Keys of the relay that held another type and were deleted.")

	descAuthAsked      = desc("auth_lookups_total", "Lookups of users and objects by auth awx, by source: the cache, a shared request in flight, or a new request.", "about", "source")
	descAuthAnswers    = desc("auth_responses_total", "Responses of AWX's API by result: yes, no, or error.", "about", "result")
	descAuthUnanswered = desc("auth_aborted_total", "Requests to AWX's API without a response, by reason: canceled because every client disconnected, or rejected because the queue was full.", "about", "reason")
	descAuthTime       = desc("auth_request_seconds_total", "Total duration of requests to AWX's API, including time in the queue.", "about")

	descAuthWaiting = desc("auth_queued_requests", "Queued requests to AWX's API by class: handshakes of known logins, handshakes of strangers, subscriptions, and rechecks.", "class")
	descRechecked   = desc("recheck_logins", "Logins that are rechecked once in each recheck interval.")
	descRecheckLag  = desc("recheck_lag_seconds", "Age of the oldest certain answer about an open login, minus the recheck interval.")
	descUnverified  = desc("sessions_unverified", "Open websocket connections whose last recheck gave no answer.")
	descRevoked     = desc("subscriptions_revoked_total", "Subscriptions ended by a recheck, because the user may no longer see the group.")

	descSuppressed = desc("log_lines_suppressed_total", "Log lines suppressed because of too many with the same message.")
)

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range Descs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	seconds := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(descBuild, 1, node.Version().Relay, node.Version().Go)
	stats := c.node.Hub.Stats()
	c.collectConnections(stats, gauge, count)
	c.collectEvents(stats, gauge, count)
	ch <- lagHistogram(stats.Lag)
	if b := c.node.Hub.Broker(); b != nil {
		h := b.Health()
		up := 0.0
		if h.OK {
			up = 1
		}
		gauge(descLayerUp, up)
		count(descReconnects, h.Reconnects)
		count(descRepairs, h.Repairs)
		count(descGaps, h.Gaps)
		count(descTrips, h.RoundTrips)
		seconds(descTripTime, h.RoundTripSeconds)
		count(descUndecodable, h.Undecodable)
		count(descIgnored, h.Ignored)
		gauge(descFaulty, float64(h.FaultyGroups))
		count(descHealed, h.Healed)
	}
	collectAuth(c.node.Hub.Authorizer(), gauge, count, seconds)
	rechecks := c.node.Hub.Rechecks()
	gauge(descRechecked, float64(rechecks.Logins))
	gauge(descRecheckLag, rechecks.Lag.Seconds())
	gauge(descUnverified, float64(rechecks.Unverified))
	if plane := c.node.Plane.Load(); plane != nil {
		collectBackplane(plane, gauge, count)
	}
	if h := c.node.Plugins.Load(); h != nil {
		collectPlugins(h, gauge, count)
	}
	count(descSuppressed, c.node.Logged.Suppressed.Load())
	collectTransport(gauge, count)
}

func (c collector) collectConnections(s hub.Stats, gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64, ...string)) {
	gauge(descConnections, float64(s.Sessions))
	for kind, n := range s.ByKind {
		gauge(descSessions, float64(n), kind.String())
	}
	gauge(descGroups, float64(s.Groups))
	count(descOpened, s.Opened)
	count(descEnded, s.Refused, "limit")
	count(descEnded, s.Silent, "silent")
	count(descEnded, s.Drained, "drained")
	count(descEnded, s.Shed, "memory")
	count(descEnded, s.Expired, "login_ended")
	count(descEnded, s.Slow, "slow_reader")
	count(descEnded, s.Renewed, "token_expired")
	count(descEnded, s.Unverified, "auth_unavailable")
	count(descRevoked, s.Revoked)
	count(descEnded, c.node.Waiting.Evicted.Load(), "no_request")
	for reason := range reject.Reasons {
		if reject.Reason(reason) != reject.Limit { // the hub has counted these
			count(descEnded, c.node.Rejected[reason].Load(), reject.Reason(reason).String())
		}
	}
	m := &c.node.Clients.Stats
	count(descEnded, m.Flooded.Load(), "too_many_messages")
	count(descMessages, m.Accepted.Load(), "ok")
	count(descMessages, m.Rejected.Load(), "refused")
	count(descMessages, m.RateLimited.Load(), "too_many")
	count(descSubscribed, m.Allowed.Load(), "allowed")
	count(descSubscribed, m.Denied.Load(), "denied")
	count(descSubscribed, m.OtherUser.Load(), "other_user")
	count(descSubscribed, m.Failed.Load(), "error")
}

func (c collector) collectEvents(s hub.Stats, gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64, ...string)) {
	count(descEvents, s.EventsFromLayer, "layer")
	count(descEvents, s.EventsFromPeers, "peer")
	count(descFanned, s.Fanned)
	count(descDropped, s.Unheard, "no_client")
	count(descDropped, s.Tailed, "tail")
	count(descDropped, s.Invalid, "not_utf8")
	count(descDropped, s.Hidden, "hidden")
	count(descDropped, s.Control, "node_message")
	var queues lanes.Stats
	if h := c.node.Plugins.Load(); h != nil {
		queues = h.Lanes.Stats()
	}
	count(descDropped, queues.Dropped, "plugin")
	count(descDropped, queues.Withheld, "withheld")
	count(descDropped, queues.DroppedSlow, "plugin_slow")
	count(descDeliveries, s.Deliveries)
	count(descMissed, s.MissedSlow, "slow_reader")
	count(descMissed, s.Missed-min(s.Missed, s.MissedSlow), "closing")
	count(descBytes, s.Bytes)
	losses, _ := c.node.Hub.Losses()
	for cause, n := range losses {
		count(descLosses, n.Times, cause)
		count(descLost, n.Events, cause)
	}
	count(descSkewed, s.Lag.Skewed)
	backlog := c.node.Hub.Backlog()
	for i, n := range backlog.Shards {
		gauge(descShardQueue, float64(n), strconv.Itoa(i))
	}
	gauge(descSlow, float64(backlog.Sockets))
	gauge(descSlowBytes, float64(backlog.SocketBytes))
	gauge(descSlowMost, float64(backlog.MostBytes))
}

// lagHistogram makes Prometheus's histogram, which is cumulative, of the hub's.
func lagHistogram(lag hub.Lag) prometheus.Metric {
	buckets := make(map[float64]uint64, len(hub.LagBounds))
	total := uint64(0)
	for i, n := range lag.Counts {
		total += n
		if i < len(hub.LagBounds) {
			buckets[hub.LagBounds[i].Seconds()] = total
		}
	}
	return prometheus.MustNewConstHistogram(descLag, total, lag.Sum.Seconds(), buckets)
}
