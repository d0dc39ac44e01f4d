// Package telemetry exposes a node's metrics to Prometheus and its traces to OpenTelemetry. [Register] adds the metrics
// to the registry of a configuration; [StartUpgrade], [Authenticate] and [TraceMessages] make the spans of a handshake,
// and an [EventTracer] the spans of sampled events.
package telemetry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/publishing"
	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/internal/lanes"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// descriptors are all metrics that [desc] has declared.
var descriptors []*prometheus.Desc

// Descriptors returns the descriptors of all metrics with a fixed name, in the order of declaration.
// docs/metrics.md has the same list; a test compares the two.
func Descriptors() []*prometheus.Desc { return descriptors }

// desc declares a metric, during the initialization of the package.
func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("edgerelay_"+name, help, labels, nil)
	descriptors = append(descriptors, d)
	return d
}

var (
	descBuild       = desc("build_info", "1, with the version of the relay and of Go.", "version", "go")
	descConnections = desc("connections", "Open connections.")
	descStreams     = desc("stream_connections",
		"Open websocket connections over streams of HTTP/2 and HTTP/3, which edgerelay_connections includes.")
	descSessions = desc("sessions",
		"Open connections by kind of user: user, superuser, auditor, or anybody with auth none.", "user")
	descDoors = desc("door_connections",
		"Open connections by door: websocket, event_stream, long_poll, or hold.", "door")
	descDoorsOpened = desc("door_connections_opened_total", "Connections opened, by door.", "door")
	descGroups      = desc("groups", "Groups with a local subscription.")
	descOpened      = desc("connections_opened_total", "Connections opened.")
	descAcceptPause = desc("accept_pause_seconds_total",
		"Total time for which accepting connections has waited for other work.")
	descEnded = desc("connections_ended_total",
		"Connections that the relay rejected or ended, by reason.", "reason")
	descMessages   = desc("client_messages_total", "Messages from clients by result.", "result")
	descSubscribed = desc("subscriptions_total", "Groups that clients requested, by result.", "result")

	descEvents     = desc("events_total", "Events that reached this node, by source.", "source")
	descFanned     = desc("events_fanned_out_total", "Events that were queued for at least one client.")
	descDropped    = desc("events_dropped_total", "Events that no local client received, by reason.", "reason")
	descDeliveries = desc("deliveries_total", "Events written to client sockets.")
	descMissed     = desc("deliveries_missed_total",
		"Events that a subscribed client did not receive, by reason.", "reason")
	descBytes = desc("delivered_bytes_total", "Bytes of frames written to client sockets.")
	descLag   = desc("delivery_lag_seconds",
		"Time from an event's publication, by the emitter's clock, to the write to its clients' sockets.")
	descSkewed = desc("delivery_clock_skew_total",
		"Deliveries before the event's publication, because the emitter's clock is ahead. The lag counts "+
			"them in its lowest bucket.")
	descShardQueue = desc("shard_queue_bytes", "Bytes of frames queued for a shard's worker.", "shard")
	descLosses     = desc("losses_total",
		"Incidents in which clients missed events, or may have missed events, by cause.", "cause")
	descLostEvents = desc("lost_events_total",
		"Events that clients missed, where the number is known, by cause.", "cause")
	descSlow         = desc("slow_sockets", "Full sockets, whose clients have queued events.")
	descSlowBytes    = desc("slow_socket_bytes", "Bytes queued for slow consumers.")
	descSlowestBytes = desc("slow_socket_most_bytes", "Bytes queued for the slowest consumer.")

	descLayerUp    = desc("channel_layer_up", "1 while the channel layer is reachable and all groups are joined.")
	descReconnects = desc("channel_layer_reconnects_total", "Reconnects to the channel layer.")
	descRepairs    = desc("channel_layer_repairs_total", "Group memberships restored.")
	descGaps       = desc("channel_layer_gaps_total",
		"Incidents in which the channel layer lost events, or may have lost events.")
	descTrips = desc("channel_layer_round_trips_total",
		"Round trips to the channel layer; a pipeline of commands counts once.")
	descTripTime = desc("channel_layer_round_trip_seconds_total",
		"Total duration of round trips to the channel layer.")
	descUndecodable = desc("channel_layer_undecodable_total", "Messages skipped because they could not be decoded.")
	descIgnored     = desc("channel_layer_ignored_total", "Messages of a type that the relay does not deliver.")
	descFaulty      = desc("channel_layer_faulty_groups",
		"Groups that cannot be joined in a healthy layer, because their keys hold another type.")
	descHealed = desc("channel_layer_healed_keys_total",
		"Keys of the relay that held another type and were deleted.")

	descAuthLookups = desc("auth_lookups_total",
		"Lookups of users and groups by auth awx and auth http, by source: the cache, a shared request in flight, or a "+
			"new request.", "about", "source")
	descAuthResponses = desc("auth_responses_total",
		"Responses of AWX's API, or of the site's endpoint of auth http, by result: yes, no, or error.", "about", "result")
	descAuthAborted = desc("auth_aborted_total",
		"Requests of auth awx and auth http without a response, by reason: canceled because every client disconnected, or "+
			"rejected because the queue was full.", "about", "reason")
	descAuthTime = desc("auth_request_seconds_total",
		"Total duration of requests of auth awx and auth http, including time in the queue.", "about")

	descAuthQueued = desc("auth_queued_requests",
		"Queued requests of auth awx and auth http by class: handshakes of known logins, handshakes of strangers, "+
			"subscriptions, and rechecks.", "class")
	descAuthTokens     = desc("auth_tokens_total", "Tokens of auth jwt by result: accepted, rejected, or error.", "result")
	descAuthKeyFetches = desc("auth_key_fetches_total", "Requests for key sets of auth jwt by result: ok, or error.", "result")
	descAuthKeyAge     = desc("auth_key_set_age_seconds", "Age of the oldest key set of auth jwt.")
	descRecheckLogins  = desc("recheck_logins", "Logins that are rechecked once in each recheck interval.")
	descRecheckLag     = desc("recheck_lag_seconds",
		"Age of the oldest certain answer about an open login, minus the recheck interval.")
	descUnverified = desc("sessions_unverified", "Open connections whose last recheck gave no answer.")
	descRevoked    = desc("subscriptions_revoked_total",
		"Subscriptions ended by a recheck, because the user may no longer see the group.")

	descSuppressed = desc("log_lines_suppressed_total",
		"Log lines suppressed because of too many with the same message.")
)

// sink is the channel of a scrape.
type sink chan<- prometheus.Metric

// gauge sends the value of a gauge.
func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// count sends the value of a counter.
func (s sink) count(d *prometheus.Desc, v uint64, labels ...string) { s.sum(d, float64(v), labels...) }

// sum sends the value of a counter of seconds.
func (s sink) sum(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// collector collects a node's metrics.
type collector struct{ node *node.Node }

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descriptors {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	out := sink(ch)
	out.gauge(descBuild, 1, node.Version().Relay, node.Version().Go)
	stats := c.node.Hub.Stats()
	c.collectConnections(out, stats)
	c.collectEvents(out, stats)
	ch <- lagHistogram(stats.Lag)
	if b := c.node.Hub.Broker(); b != nil {
		collectLayer(out, b.Health())
	}
	collectHistory(out, c.node.Hub.History())
	collectResumes(out, c.node.Hub.ResumeStats())
	collectCompression(out, c.node.Hub.CompressionStats())
	collectPresence(out, c.node.Presence.Tracker())
	collectState(out, c.node.State.Store())
	collectPublishing(out, publishing.StateOf(c.node))
	collectBackends(out, &c.node.Backends)
	collectRoutes(out, &c.node.Routes)
	collectAuth(out, c.node.Hub.Authorizer())
	rechecks := c.node.Hub.Rechecks()
	out.gauge(descRecheckLogins, float64(rechecks.Logins))
	out.gauge(descRecheckLag, rechecks.Lag.Seconds())
	out.gauge(descUnverified, float64(rechecks.Unverified))
	if plane := c.node.Backplane.Load(); plane != nil {
		collectBackplane(out, plane)
	}
	if h := c.node.Plugins.Load(); h != nil {
		collectPlugins(out, h)
	}
	out.count(descSuppressed, c.node.SuppressedLogLines())
	collectTransport(out)
}

// collectLayer collects the metrics of the channel layer.
func collectLayer(out sink, h relay.Health) {
	up := 0.0
	if h.OK {
		up = 1
	}
	out.gauge(descLayerUp, up)
	out.count(descReconnects, h.Reconnects)
	out.count(descRepairs, h.Repairs)
	out.count(descGaps, h.Gaps)
	out.count(descTrips, h.RoundTrips)
	out.sum(descTripTime, h.RoundTripSeconds)
	out.count(descUndecodable, h.Undecodable)
	out.count(descIgnored, h.Ignored)
	out.gauge(descFaulty, float64(h.FaultyGroups))
	out.count(descHealed, h.Healed)
}

// collectConnections collects the metrics of connections, their messages and subscriptions.
func (c collector) collectConnections(out sink, s hub.Stats) {
	out.gauge(descConnections, float64(s.Sessions))
	out.gauge(descStreams, float64(c.node.StreamSockets.Len()))
	for kind, n := range s.ByKind {
		out.gauge(descSessions, float64(n), kind.String())
	}
	for d := range relay.DoorCount {
		out.gauge(descDoors, float64(s.ByDoor[d]), d.String())
		out.count(descDoorsOpened, s.OpenedByDoor[d], d.String())
	}
	out.gauge(descGroups, float64(s.Groups))
	out.count(descOpened, s.Opened)
	out.sum(descAcceptPause, c.node.AcceptPause().Seconds())
	out.count(descEnded, s.Rejected, "limit")
	out.count(descEnded, s.TimedOut, "silent")
	out.count(descEnded, s.Drained, "drained")
	out.count(descEnded, s.EvictedForMemory, "memory")
	out.count(descEnded, s.Expired, "login_ended")
	out.count(descEnded, s.Slow, "slow_reader")
	out.count(descEnded, s.Renewed, "token_expired")
	out.count(descEnded, s.Unverified, "auth_unavailable")
	out.count(descRevoked, s.Revoked)
	out.count(descEnded, c.node.EvictedConnections(), "no_request")
	for reason := range reject.ReasonCount {
		if reject.Reason(reason) != reject.LimitReached { // the hub counts this reason
			out.count(descEnded, c.node.Rejections[reason].Load(), reject.Reason(reason).String())
		}
	}
	m := &c.node.AWX.Stats
	out.count(descEnded, m.Flooded.Load(), "too_many_messages")
	out.count(descMessages, m.Accepted.Load(), "ok")
	out.count(descMessages, m.Rejected.Load(), "refused")
	out.count(descMessages, m.RateLimited.Load(), "too_many")
	out.count(descSubscribed, m.Allowed.Load(), "allowed")
	out.count(descSubscribed, m.Denied.Load(), "denied")
	out.count(descSubscribed, m.OtherUser.Load(), "other_user")
	out.count(descSubscribed, m.Failed.Load(), "error")
}

// collectEvents collects the metrics of events, deliveries and losses.
func (c collector) collectEvents(out sink, s hub.Stats) {
	out.count(descEvents, s.EventsFromLayer, "layer")
	out.count(descEvents, s.EventsFromPeers, "peer")
	out.count(descFanned, s.Fanned)
	out.count(descDropped, s.Unheard, "no_client")
	out.count(descDropped, s.Tailed, "tail")
	out.count(descDropped, s.Invalid, "not_utf8")
	out.count(descDropped, s.Hidden, "hidden")
	out.count(descDropped, s.Control, "node_message")
	var queues lanes.Stats
	if h := c.node.Plugins.Load(); h != nil {
		queues = h.Lanes.Stats()
	}
	out.count(descDropped, queues.Dropped, "plugin")
	out.count(descDropped, queues.Withheld, "withheld")
	out.count(descDropped, queues.DroppedSlow, "plugin_slow")
	out.count(descDeliveries, s.Deliveries)
	out.count(descMissed, s.MissedSlow, "slow_reader")
	out.count(descMissed, s.Missed-min(s.Missed, s.MissedSlow), "closing")
	out.count(descBytes, s.Bytes)
	losses, _ := c.node.Hub.Losses()
	for cause, n := range losses {
		out.count(descLosses, n.Times, cause)
		out.count(descLostEvents, n.Events, cause)
	}
	out.count(descSkewed, s.Lag.Skewed)
	backlog := c.node.Hub.Backlog()
	for i, n := range backlog.Shards {
		out.gauge(descShardQueue, float64(n), strconv.Itoa(i))
	}
	out.gauge(descSlow, float64(backlog.Sockets))
	out.gauge(descSlowBytes, float64(backlog.SocketBytes))
	out.gauge(descSlowestBytes, float64(backlog.MostBytes))
}

// lagHistogram converts the hub's histogram to the cumulative buckets of Prometheus.
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
