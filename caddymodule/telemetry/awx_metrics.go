package telemetry

import (
	"cmp"
	"net"
	"net/url"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// awxCollector collects the metrics of a node's peers under AWX's names, if the current configuration has awx_metrics
// on.
type awxCollector struct{ node *node.Node }

// Describe implements [prometheus.Collector]. The names depend on the peers, so there is nothing to describe.
func (awxCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c awxCollector) Collect(ch chan<- prometheus.Metric) {
	if plane := c.node.Backplane.Load(); plane != nil && c.node.AWXMetrics.Load() {
		awxPeersOf(c.node).collect(plane.Peers(), ch)
	}
}

// awxPeers collects metrics of peers under the names of AWX's wsrelay (awx/main/analytics/broadcast_websocket.py), for
// existing dashboards. In AWX the name of a peer is part of the name of the metric.
type awxPeers struct {
	mu    sync.Mutex
	peers map[string]*awxPeer
	now   func() time.Time
}

// awxPeersOf returns the counters of a node, which survive reloads.
func awxPeersOf(n *node.Node) *awxPeers {
	type key struct{}
	return n.Extension(key{}, func() any { return newAWXPeers() }).(*awxPeers)
}

func newAWXPeers() *awxPeers { return &awxPeers{peers: map[string]*awxPeer{}, now: time.Now} }

// awxPeer has the counters of a host between scrapes.
type awxPeer struct {
	// received counts the messages of earlier connections, current those of the connections that are open.
	received float64
	current  uint64
	samples  []awxSample
}

// awxSample is the number of received messages at a scrape.
type awxSample struct {
	at       time.Time
	received float64
}

// awxMinute is the window of messages_received_per_minute.
const awxMinute = time.Minute

// unsafeInName matches the characters that AWX replaces in a name.
var unsafeInName = regexp.MustCompile(`[^0-9a-zA-Z]+`)

// awxName is the name of a peer's host, in the form that AWX puts into the name of a metric.
func awxName(p *backplane.Peer) string {
	name := p.Name
	if u, err := url.Parse(p.URL); err == nil && u.Hostname() != "" {
		name = u.Hostname()
	}
	if host, _, err := net.SplitHostPort(p.Address); name == "" && err == nil {
		name = host
	}
	return unsafeInName.ReplaceAllString(name, "_")
}

// awxHost sums the peers of a host.
type awxHost struct {
	frames    uint64
	connected bool
	since     time.Time
}

// sumByHost sums the peers by the name of their host.
func sumByHost(peers []backplane.Peer) map[string]*awxHost {
	hosts := map[string]*awxHost{}
	for i := range peers {
		p := &peers[i]
		name := awxName(p)
		if hosts[name] == nil {
			hosts[name] = &awxHost{}
		}
		h := hosts[name]
		if p.State != backplane.StateConnected {
			continue
		}
		h.frames += p.FramesIn
		if !h.connected || p.Since.Before(h.since) {
			h.connected, h.since = true, p.Since
		}
	}
	return hosts
}

// collect collects the metrics of all peers.
func (a *awxPeers) collect(peers []backplane.Peer, ch chan<- prometheus.Metric) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, hosts := a.now(), sumByHost(peers)
	for name := range a.peers {
		if hosts[name] == nil {
			delete(a.peers, name)
		}
	}
	for name, h := range hosts {
		p := a.peers[name]
		if p == nil {
			p = &awxPeer{samples: []awxSample{{at: cmp.Or(h.since, now)}}}
			a.peers[name] = p
		}
		if h.frames < p.current { // another connection
			p.received += float64(p.current)
		}
		p.current = h.frames
		total := p.received + float64(h.frames)
		sendAWX(ch, name, h, total, p.lastMinute(now, total))
	}
}

// sendAWX sends the metrics of a host. The help texts are AWX's own, so that a registry may hold both.
func sendAWX(ch chan<- prometheus.Metric, name string, h *awxHost, total, lastMinute float64) {
	send := func(suffix, help string, kind prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("awx_"+name+suffix, help, nil, nil), kind, v)
	}
	send("_messages_received_total", "Number of messages received, to be forwarded, by the broadcast websocket system",
		prometheus.CounterValue, total)
	// The name has three r in AWX, too.
	send("_messages_received_currrent_conn", "Number forwarded messages received by the broadcast websocket system, "+
		"for the duration of the current connection", prometheus.GaugeValue, float64(h.frames))
	send("_messages_received_per_minute", "Messages received per minute", prometheus.GaugeValue, lastMinute)
	start := 0.0
	if h.connected {
		start = float64(h.since.UnixMicro()) / 1e6
	}
	send("_connection_start", "Time the connection was established", prometheus.GaugeValue, start)
	state := prometheus.NewDesc("awx_"+name+"_connection", "Websocket broadcast connection",
		[]string{"awx_" + name + "_connection"}, nil)
	for value, is := range map[string]bool{"connected": h.connected, "disconnected": !h.connected} {
		v := 0.0
		if is {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(state, prometheus.GaugeValue, v, value)
	}
}

// lastMinute is the number of messages in the last minute. It interpolates between two scrapes.
func (p *awxPeer) lastMinute(now time.Time, total float64) float64 {
	from := now.Add(-awxMinute)
	for len(p.samples) > 1 && !p.samples[1].at.After(from) {
		p.samples = p.samples[1:]
	}
	next := append(p.samples, awxSample{now, total})
	p.samples = next
	first := next[0]
	if !first.at.Before(from) {
		return total - first.received
	}
	second := next[1]
	part := from.Sub(first.at).Seconds() / second.at.Sub(first.at).Seconds()
	return total - first.received - part*(second.received-first.received)
}
