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

// awxCollector shows the peers of a node's backplane, if the configuration in force says awx_metrics.
type awxCollector struct{ node *node.Node }

// Describe implements [prometheus.Collector]. What it leaves out is not known before the scrape.
func (awxCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c awxCollector) Collect(ch chan<- prometheus.Metric) {
	if plane := c.node.Plane.Load(); plane != nil && c.node.AWXMetrics.Load() {
		awxPeersOf(c.node).collect(plane.Peers(), ch)
	}
}

// awxPeers shows the backplane's peers by the names that AWX's wsrelay gives to its own (awx/main/analytics/broadcast_websocket.py), for
// dashboards that exist. A peer's name is a part of the metric's name there.
type awxPeers struct {
	mu    sync.Mutex
	peers map[string]*awxPeer
	now   func() time.Time
}

// awxPeersOf returns a node's.
func awxPeersOf(n *node.Node) *awxPeers {
	type key struct{}
	return n.Keep(key{}, func() any { return newAWXPeers() }).(*awxPeers)
}

func newAWXPeers() *awxPeers { return &awxPeers{peers: map[string]*awxPeer{}, now: time.Now} }

// awxPeer is what is remembered of one between scrapes.
type awxPeer struct {
	received float64 // before the connections there are now
	current  uint64  // on these
	samples  []awxSample
}

type awxSample struct {
	at       time.Time
	received float64
}

// awxMinute is the window of messages_received_per_minute.
const awxMinute = time.Minute

// unsafe is what AWX replaces in a name.
var unsafe = regexp.MustCompile(`[^0-9a-zA-Z]+`)

// awxName is a peer's name as AWX makes it a part of a metric's: that of the host.
func awxName(p *backplane.Peer) string {
	name := p.Name
	if u, err := url.Parse(p.URL); err == nil && u.Hostname() != "" {
		name = u.Hostname()
	}
	if host, _, err := net.SplitHostPort(p.Address); name == "" && err == nil {
		name = host
	}
	return unsafe.ReplaceAllString(name, "_")
}

// collect shows peers; those of one host together.
func (a *awxPeers) collect(peers []backplane.Peer, ch chan<- prometheus.Metric) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	type host struct {
		frames    uint64
		connected bool
		since     time.Time
	}
	hosts := map[string]*host{}
	for i := range peers {
		p := &peers[i]
		name := awxName(p)
		if hosts[name] == nil {
			hosts[name] = &host{}
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
	for name := range a.peers {
		if hosts[name] == nil {
			delete(a.peers, name)
		}
	}
	for name, h := range hosts {
		kept := a.peers[name]
		if kept == nil {
			kept = &awxPeer{samples: []awxSample{{at: cmp.Or(h.since, now)}}}
			a.peers[name] = kept
		}
		if h.frames < kept.current { // another connection
			kept.received += float64(kept.current)
		}
		kept.current = h.frames
		total := kept.received + float64(h.frames)

		show := func(suffix, help string, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("awx_"+name+suffix, help, nil, nil), kind, v)
		}
		show("_messages_received_total", "Number of messages received, to be forwarded, by the broadcast websocket system", prometheus.CounterValue, total)
		// The name has three r in AWX, too.
		show("_messages_received_currrent_conn", "Number forwarded messages received by the broadcast websocket system, for the duration of the current connection", prometheus.GaugeValue, float64(h.frames))
		show("_messages_received_per_minute", "Messages received per minute", prometheus.GaugeValue, kept.lastMinute(now, total))
		start := 0.0
		if h.connected {
			start = float64(h.since.UnixMicro()) / 1e6
		}
		show("_connection_start", "Time the connection was established", prometheus.GaugeValue, start)
		state := prometheus.NewDesc("awx_"+name+"_connection", "Websocket broadcast connection", []string{"awx_" + name + "_connection"}, nil)
		for value, is := range map[string]bool{"connected": h.connected, "disconnected": !h.connected} {
			v := 0.0
			if is {
				v = 1
			}
			ch <- prometheus.MustNewConstMetric(state, prometheus.GaugeValue, v, value)
		}
	}
}

// lastMinute is how many messages came in the last minute, as far as the scrapes tell: between two of them they are taken to have come evenly.
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
