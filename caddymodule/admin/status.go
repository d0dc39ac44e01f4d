package admin

import (
	"net/http"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/publishing"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// Status is the response to GET /edgerelay/status.
type Status struct {
	// Status is "ok", "draining" from the start of a drain on, or "unavailable".
	Status string `json:"status"`
	// Drain is the progress of a drain; absent without a drain.
	Drain *DrainStatus `json:"drain,omitempty"`
	// Version is the version of the relay.
	Version string `json:"version"`
	// Started is the start of the node; a reload does not change it.
	Started time.Time `json:"started"`
	// ChannelLayer is the state of the channel layer.
	ChannelLayer LayerStatus `json:"channel_layer"`
	// Connections and Groups are the numbers of this node.
	Connections int `json:"connections"`
	Groups      int `json:"groups"`
	// Rates are averages of the last second.
	Rates Rates `json:"rates"`
	// Lag is the lag of the deliveries in the last 30 seconds.
	Lag node.LagQuantiles `json:"lag"`
	// Users counts connections by kind of user.
	Users map[string]int `json:"users"`
	// Doors counts connections by transport: websocket, event_stream, long_poll and hold.
	Doors map[string]int `json:"doors"`
	// Totals count from the start of the node.
	Totals Totals `json:"totals"`
	// Dropped counts events and deliveries that did not arrive, by reason.
	Dropped map[string]uint64 `json:"dropped"`
	// Ended counts connections that the relay rejected or ended, by reason.
	Ended map[string]uint64 `json:"ended"`
	// Losses counts incidents in which clients missed events, or may have missed events, by cause.
	Losses map[string]uint64 `json:"losses"`
	// LastLoss describes the last of these incidents; absent without a loss.
	LastLoss *Loss `json:"last_loss,omitempty"`
	// Compression describes the compression of events.
	Compression CompressionStatus `json:"compression"`
	// Histories describes the histories of groups; absent if no group has one.
	Histories *HistoryStatus `json:"histories,omitempty"`
	// Resumes counts the subscriptions of clients that get positions.
	Resumes ResumeStatus `json:"resumes"`
	// Presence describes the presence of routes; absent if no route has presence.
	Presence *PresenceStatus `json:"presence,omitempty"`
	// State describes the shared state of plugins; absent if no plugin uses it.
	State *StateStatus `json:"state,omitempty"`
	// Routes has the figures of routes, by path; absent without a route.
	Routes []RouteStatus `json:"routes,omitempty"`
	// Peers counts the nodes of the backplane; absent without a backplane.
	Peers *PeerCount `json:"peers,omitempty"`
	// Publishing lists the keys of edgerelay_publish, without their secrets; absent without a key.
	Publishing []publishing.KeyStatus `json:"publishing,omitempty"`
	// Plugins lists unhealthy plugins.
	Plugins []UnhealthyPlugin `json:"plugins"`
	// Limits are the current limits.
	Limits Limits `json:"limits"`
	// Process has metrics of the process.
	Process Process `json:"process"`
}

// LayerStatus is the health of the channel layer.
type LayerStatus struct {
	LayerHealth
	// RepairedAt is the time of the last membership restored; absent without one.
	RepairedAt time.Time `json:"repaired_at,omitzero"`
}

// Rates are rates per second.
type Rates struct {
	Events     float64 `json:"events"`
	Deliveries float64 `json:"deliveries"`
	Bytes      float64 `json:"bytes"`
}

// Totals are counters.
type Totals struct {
	Opened          uint64 `json:"connections_opened"`
	EventsFromLayer uint64 `json:"events_from_layer"`
	EventsFromPeers uint64 `json:"events_from_peers"`
	Deliveries      uint64 `json:"deliveries"`
	Bytes           uint64 `json:"bytes"`
}

// PeerCount counts the nodes of the backplane.
type PeerCount = backplane.PeerCount

// Limits are limits of the hub; 0 is no limit.
type Limits struct {
	Connections int `json:"connections"`
	// QueuePerConnection is in bytes.
	QueuePerConnection int `json:"queue_per_connection"`
}

// Process has metrics of the process.
type Process struct {
	// FileLimit is the limit on file descriptors, 0 if unknown. Each connection uses a descriptor.
	FileLimit uint64 `json:"file_limit"`
	// Memory is the memory that Go has obtained from the operating system.
	Memory     uint64  `json:"memory_bytes"`
	CPUSeconds float64 `json:"cpu_seconds"`
	Goroutines int     `json:"goroutines"`
}

// serveStatus writes the node's status.
func serveStatus(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	return WriteJSON(w, statusOf(n))
}

// statusOf collects the node's status.
func statusOf(n *node.Node) Status {
	stats, now := n.Hub.Stats(), n.Monitor.Latest()
	limits := n.Hub.Limits()
	_, repairedAt := n.Monitor.History()
	s := Status{
		Status: "unavailable", Version: node.Version().Relay, Started: n.Started,
		Connections: stats.Sessions, Groups: stats.Groups,
		Rates: Rates{now.Events, now.Deliveries, now.Bytes},
		Totals: Totals{
			Opened: stats.Opened, EventsFromLayer: stats.EventsFromLayer, EventsFromPeers: stats.EventsFromPeers,
			Deliveries: stats.Deliveries, Bytes: stats.Bytes,
		},
		Lag:      n.Monitor.Lag(),
		Users:    map[string]int{},
		Losses:   map[string]uint64{},
		LastLoss: lastLoss(n),
		Dropped: map[string]uint64{
			"no_client": stats.Unheard, "tail": stats.Tailed, "not_utf8": stats.Invalid, "hidden": stats.Hidden,
			"slow_reader": stats.MissedSlow, "closing": stats.Missed - stats.MissedSlow,
		},
		Ended: map[string]uint64{
			"limit": stats.Rejected, "silent": stats.TimedOut, "login_ended": stats.Expired, "slow_reader": stats.Slow,
		},
		Plugins: unhealthyPlugins(n),
		Limits:  Limits{limits.Connections, limits.QueuePerConnection},
		Process: currentProcess(),
		Peers:   countPeers(n),

		Compression: compressionStatus(n),
		Histories:   historyStatus(n),
		Resumes:     resumeStatus(n),
		Presence:    presenceStatus(n),
		State:       stateStatus(n),

		Publishing: publishing.StateOf(n).Keys(),
		Routes:     routeStatus(n),
	}
	losses, _ := n.Hub.Losses()
	for cause, count := range losses {
		s.Losses[cause] = count.Times
	}
	s.Doors = map[string]int{}
	for door := range relay.DoorCount {
		s.Doors[door.String()] = stats.ByDoor[door]
	}
	for kind, count := range stats.ByKind {
		s.Users[kind.String()] = count
	}
	if s.Plugins == nil { // an array in JSON, never null
		s.Plugins = []UnhealthyPlugin{}
	}
	if b := n.Hub.Broker(); b != nil {
		s.ChannelLayer = LayerStatus{LayerHealth(b.Health()), repairedAt}
	}
	switch drain := DrainStatus(n.Hub.DrainStatus()); {
	case drain.State != "off":
		s.Status, s.Drain = "draining", &drain
	case s.ChannelLayer.OK:
		s.Status = "ok"
	}
	return s
}

// countPeers counts the nodes of the backplane; nil without a backplane.
func countPeers(n *node.Node) *PeerCount {
	plane := n.Backplane.Load()
	if plane == nil {
		return nil
	}
	count := backplane.CountNodes(plane.Nodes())
	return &count
}

// Loss is an incident in which clients missed events, or may have missed events.
type Loss struct {
	// At is the time of detection.
	At time.Time `json:"at"`
	// Cause is a label value of edgerelay_losses_total.
	Cause string `json:"cause"`
	// Detail names the groups, and the number of events if known.
	Detail string `json:"detail"`
}

// lastLoss returns the last loss; nil without a loss.
func lastLoss(n *node.Node) *Loss {
	_, last := n.Hub.Losses()
	if last.At.IsZero() {
		return nil
	}
	return &Loss{last.At, last.Cause, last.Text}
}

// currentProcess reads the metrics of the process.
func currentProcess() Process {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
	metrics.Read(samples)
	return Process{
		FileLimit: node.FileLimit(), CPUSeconds: node.CPUTime().Seconds(),
		Memory: samples[0].Value.Uint64(), Goroutines: runtime.NumGoroutine(),
	}
}
