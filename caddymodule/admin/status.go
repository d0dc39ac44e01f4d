package admin

import (
	"net/http"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// nodeStatus is what GET /edgerelay/status answers.
type NodeStatus struct {
	// Status is "ok", "draining" while clients are sent to other nodes and afterwards, or "unavailable".
	Status string `json:"status"`
	// Drain tells how far a drain is.
	Drain *hub.DrainStatus `json:"drain,omitempty"`
	// Version is the module's, Started when the node was made.
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// ChannelLayer is the state of the channel layer.
	ChannelLayer layerStatus `json:"channel_layer"`
	// Connections and Groups are how many there are on this node.
	Connections int `json:"connections"`
	Groups      int `json:"groups"`
	// Rates are of the last second.
	Rates rates `json:"rates"`
	// Lag is of the last half minute.
	Lag node.LagQuantiles `json:"lag"`
	// Users counts connections by kind of user.
	Users map[string]int `json:"users"`
	// Totals are since the node was made.
	Totals totals `json:"totals"`
	// Dropped counts what did not arrive, by reason; Ended connections that the relay refused or ended.
	Dropped map[string]uint64 `json:"dropped"`
	Ended   map[string]uint64 `json:"ended"`
	// Losses counts the times in which clients did not get events, or may not have, by cause; LastLoss tells of the
	// last.
	Losses   map[string]uint64 `json:"losses"`
	LastLoss *lossStatus       `json:"last_loss,omitempty"`
	// Peers counts the nodes of the backplane; absent without one.
	Peers *peerCount `json:"peers,omitempty"`
	// Plugins tells of plugins that do not do their work.
	Plugins []pluginTrouble `json:"plugins"`
	// Limits are the limits in force.
	Limits limitStatus `json:"limits"`
	// Process is the process that all this runs in.
	Process processStatus `json:"process"`
}

type layerStatus struct {
	relay.Health
	// RepairedAt is when a membership that had vanished was last put back.
	RepairedAt time.Time `json:"repaired_at,omitzero"`
}

type rates struct {
	Events     float64 `json:"events"`
	Deliveries float64 `json:"deliveries"`
	Bytes      float64 `json:"bytes"`
}

type totals struct {
	Opened          uint64 `json:"connections_opened"`
	EventsFromLayer uint64 `json:"events_from_layer"`
	EventsFromPeers uint64 `json:"events_from_peers"`
	Deliveries      uint64 `json:"deliveries"`
	Bytes           uint64 `json:"bytes"`
}

type peerCount struct {
	Connected int `json:"connected"`
	Known     int `json:"known"`
}

type limitStatus struct {
	Connections        int `json:"connections"`
	QueuePerConnection int `json:"queue_per_connection"`
}

type processStatus struct {
	// FileLimit is how many file descriptors there may be, 0 if that is not known. Each connection takes one.
	FileLimit uint64 `json:"file_limit"`
	// Memory is what the process has of the operating system, in bytes.
	Memory     uint64  `json:"memory_bytes"`
	CPUSeconds float64 `json:"cpu_seconds"`
	Goroutines int     `json:"goroutines"`
}

func serveStatus(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	return WriteJSON(w, statusOf(n))
}

// status gathers the node's figures.
func statusOf(n *node.Node) NodeStatus {
	stats, now := n.Hub.Stats(), n.Monitor.Latest()
	limits := n.Hub.Limits()
	_, repairedAt := n.Monitor.History()
	s := NodeStatus{
		Status: "unavailable", Version: node.Version().Relay, Started: n.Started,
		Connections: stats.Sessions, Groups: stats.Groups,
		Rates: rates{now.Events, now.Deliveries, now.Bytes},
		Totals: totals{
			Opened: stats.Opened, EventsFromLayer: stats.EventsFromLayer, EventsFromPeers: stats.EventsFromPeers,
			Deliveries: stats.Deliveries, Bytes: stats.Bytes,
		},
		Lag:   n.Monitor.Lag(),
		Users: map[string]int{}, Losses: map[string]uint64{}, LastLoss: lastLoss(n),
		Dropped: map[string]uint64{
			"no_client": stats.Unheard, "tail": stats.Tailed, "not_utf8": stats.Invalid, "hidden": stats.Hidden,
			"slow_reader": stats.MissedSlow, "closing": stats.Missed - stats.MissedSlow,
		},
		Ended:   map[string]uint64{"limit": stats.Refused, "silent": stats.Silent, "login_ended": stats.Expired, "slow_reader": stats.Slow},
		Plugins: pluginTroubles(n),
		Limits:  limitStatus{limits.Connections, limits.QueuePerConnection},
		Process: process(),
	}
	losses, _ := n.Hub.Losses()
	for cause, count := range losses {
		s.Losses[cause] = count.Times
	}
	for kind, count := range stats.ByKind {
		s.Users[kind.String()] = count
	}
	if s.Plugins == nil {
		s.Plugins = []pluginTrouble{}
	}
	if b := n.Hub.Broker(); b != nil {
		s.ChannelLayer = layerStatus{b.Health(), repairedAt}
	}
	switch drain := n.Hub.DrainStatus(); {
	case drain.State != "off":
		s.Status, s.Drain = "draining", &drain
	case s.ChannelLayer.OK:
		s.Status = "ok"
	}
	s.Peers = countPeers(n)
	return s
}

// countPeers counts the nodes of the backplane; nil without one.
func countPeers(n *node.Node) *peerCount {
	plane := n.Backplane.Load()
	if plane == nil {
		return nil
	}
	count := &peerCount{}
	for _, p := range plane.Peers() {
		count.Known++
		if p.State == "connected" {
			count.Connected++
		}
	}
	return count
}

// lossStatus is a loss as operators see it.
type lossStatus struct {
	// At is when it was noticed, Cause a label of edgerelay_losses_total.
	At    time.Time `json:"at"`
	Cause string    `json:"cause"`
	// Detail says which groups are concerned, and how many events if that is known.
	Detail string `json:"detail"`
}

// lastLoss is nil if nothing was lost.
func lastLoss(n *node.Node) *lossStatus {
	_, last := n.Hub.Losses()
	if last.At.IsZero() {
		return nil
	}
	return &lossStatus{last.At, last.Cause, last.Text}
}

func process() processStatus {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
	metrics.Read(samples)
	return processStatus{
		FileLimit: node.FileLimit(), CPUSeconds: node.CPUTime().Seconds(),
		Memory: samples[0].Value.Uint64(), Goroutines: runtime.NumGoroutine(),
	}
}
