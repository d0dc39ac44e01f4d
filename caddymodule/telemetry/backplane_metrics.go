package telemetry

import (
	"github.com/edgerelay/edgerelay/relay/backplane"
)

var (
	descPeers         = desc("backplane_peers", "Nodes by state and dialect.", "state", "dialect")
	descPeersExpected = desc("backplane_peers_expected",
		"Other nodes that the settings or a discovery name.")
	descPeerConnected = desc("backplane_peer_connected",
		"1 if a node that the settings or a discovery name is connected, else 0.", "peer")
	descPeerRTT     = desc("backplane_peer_rtt_seconds", "Round-trip time of the last ping to a peer.", "peer")
	descPeerLag     = desc("backplane_peer_lag_seconds", "Age of the oldest event queued for a peer.", "peer")
	descPeerArrival = desc("backplane_peer_arrival_lag_seconds",
		"Largest time from an event's queueing at a peer to its arrival at this node, in the last 15 to 30 seconds.",
		"peer")
	descPeerFrames   = desc("backplane_frames_total", "WebSocket messages exchanged with peers.", "direction")
	descPeerEvents   = desc("backplane_events_total", "Events exchanged with peers.", "direction")
	descPeerDropped  = desc("backplane_dropped_total", "Dropped events and messages by reason.", "reason")
	descPeerRejected = desc("backplane_refused_total", "Rejected handshakes of nodes by reason.", "reason")
	descClockSkew    = desc("backplane_clock_skew_seconds",
		"Largest lag of a peer's clock; negative if that clock is ahead.")
)

// collectBackplane collects the metrics of a backplane.
func collectBackplane(out sink, plane *backplane.Backplane) {
	type kind struct {
		state   backplane.State
		dialect backplane.Dialect
	}
	states := map[kind]int{}
	type times struct{ rtt, lag, arrival float64 }
	measured := map[string]times{}
	nodes := plane.Nodes()
	for i := range nodes {
		n := &nodes[i]
		states[kind{n.State, n.Dialect}]++
		if n.State == backplane.StateSelf {
			continue
		}
		label := n.Label()
		before := measured[label] // nodes that dialed this one may share a name
		measured[label] = times{
			max(before.rtt, n.RTT), max(before.lag, n.Lag), max(before.arrival, n.ArrivalLag),
		}
		if n.Expected {
			connected := 0.0
			if n.State == backplane.StateConnected {
				connected = 1
			}
			out.gauge(descPeerConnected, connected, label)
		}
	}
	out.gauge(descPeersExpected, float64(backplane.CountNodes(nodes).Expected))
	for k, n := range states {
		out.gauge(descPeers, float64(n), string(k.state), string(k.dialect))
	}
	for label, m := range measured {
		out.gauge(descPeerRTT, m.rtt, label)
		out.gauge(descPeerLag, m.lag, label)
		out.gauge(descPeerArrival, m.arrival, label)
	}
	s := plane.Stats()
	out.count(descPeerFrames, s.FramesIn, "in")
	out.count(descPeerFrames, s.FramesOut, "out")
	out.count(descPeerEvents, s.EventsIn, "in")
	out.count(descPeerEvents, s.EventsOut, "out")
	for _, reason := range backplane.DropReasons() { // a counter that begins with its first loss shows no increase
		out.count(descPeerDropped, s.Dropped[reason], reason)
	}
	for reason, n := range s.Rejected {
		out.count(descPeerRejected, n, string(reason))
	}
	out.gauge(descClockSkew, s.ClockSkew.Seconds())
}
