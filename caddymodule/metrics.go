package caddymodule

import "github.com/prometheus/client_golang/prometheus"

// collector shows a node's figures to Prometheus.
type collector struct{ node *node }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("edgerelay_"+name, help, labels, nil)
}

var (
	descConnections = desc("connections", "Open websocket connections.")
	descGroups      = desc("groups", "Groups with a local subscription.")
	descOpened      = desc("connections_opened_total", "Websocket connections opened.")
	descEnded       = desc("connections_ended_total", "Connections that the relay refused or ended, by reason.", "reason")
	descEvents      = desc("events_total", "Events that reached this node, by source.", "source")
	descDropped     = desc("events_dropped_total", "Events that no local client got, by reason.", "reason")
	descDeliveries  = desc("deliveries_total", "Events handed to client sockets.")
	descMissed      = desc("deliveries_missed_total", "Events a client did not get because it was closing or read too slowly.")
	descBytes       = desc("delivered_bytes_total", "Bytes of frames handed to client sockets.")
	descLayerUp     = desc("channel_layer_up", "1 while the channel layer is reachable and all groups are joined.")
	descReconnects  = desc("channel_layer_reconnects_total", "Connections to the channel layer made again.")
	descRepairs     = desc("channel_layer_repairs_total", "Group memberships that had vanished and were put back.")
	descGaps        = desc("channel_layer_gaps_total", "Times in which events may have been missed, in a layer that keeps nothing.")
	descUndecodable = desc("channel_layer_undecodable_total", "Messages skipped because they could not be decoded.")
	descIgnored     = desc("channel_layer_ignored_total", "Messages of a type that does not concern the relay.")
)

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descConnections, descGroups, descOpened, descEnded, descEvents, descDropped, descDeliveries, descMissed, descBytes,
		descLayerUp, descReconnects, descRepairs, descGaps, descUndecodable, descIgnored,
		descPeers, descPeerRTT, descPeerLag, descPeerFrames, descPeerEvents, descPeerDropped, descPeerRefused, descClockSkew,
		descPluginCalls, descPluginVerdicts, descPluginFuel, descPluginFailures, descPluginBypassed, descPluginBreaker, descPluginShadow,
		descPluginDeploys, descPluginMemory, descPluginKV, descPluginCounter, descPluginWaiting,
	} {
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
	s := c.node.hub.Stats()
	gauge(descConnections, float64(s.Sessions))
	gauge(descGroups, float64(s.Groups))
	count(descOpened, s.Opened)
	count(descEnded, s.Refused, "limit")
	count(descEnded, s.Silent, "silent")
	count(descEnded, s.Expired, "login_ended")
	count(descEvents, s.EventsFromLayer, "layer")
	count(descEvents, s.EventsFromPeers, "peer")
	count(descDropped, s.Unheard, "no_client")
	count(descDropped, s.Invalid, "not_utf8")
	count(descDeliveries, s.Deliveries)
	count(descMissed, s.Missed)
	count(descBytes, s.Bytes)
	if plane := c.node.plane.Load(); plane != nil {
		collectBackplane(plane, gauge, count)
	}
	if h := c.node.plugins.Load(); h != nil {
		collectPlugins(h, gauge, count)
	}
	if b := c.node.hub.Broker(); b != nil {
		h := b.Health()
		up := 0.0
		if h.OK {
			up = 1
		}
		gauge(descLayerUp, up)
		count(descReconnects, h.Reconnects)
		count(descRepairs, h.Repairs)
		count(descGaps, h.Gaps)
		count(descUndecodable, h.Undecodable)
		count(descIgnored, h.Ignored)
	}
}
