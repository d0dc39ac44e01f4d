package telemetry

import (
	"net"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

var (
	descPeers       = desc("backplane_peers", "Peers by state and dialect.", "state", "dialect")
	descPeerRTT     = desc("backplane_peer_rtt_seconds", "Round-trip time of the last ping to a peer.", "peer")
	descPeerLag     = desc("backplane_peer_lag_seconds", "Age of the oldest event queued for a peer.", "peer")
	descPeerArrival = desc("backplane_peer_arrival_lag_seconds",
		"Largest time from an event's queueing at a peer to its arrival at this node, in the last 15 to 30 seconds.", "peer")
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
	rtt, lag, arrival := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for _, p := range plane.Peers() {
		states[kind{p.State, p.Dialect}]++
		name := p.URL
		if name == "" {
			name = p.Name
		}
		if name == "" {
			name, _, _ = net.SplitHostPort(p.Address)
		}
		rtt[name], lag[name] = max(rtt[name], p.RTT), max(lag[name], p.Lag)
		arrival[name] = max(arrival[name], p.ArrivalLag)
	}
	for k, n := range states {
		out.gauge(descPeers, float64(n), string(k.state), string(k.dialect))
	}
	for name := range rtt {
		out.gauge(descPeerRTT, rtt[name], name)
		out.gauge(descPeerLag, lag[name], name)
		out.gauge(descPeerArrival, arrival[name], name)
	}
	s := plane.Stats()
	out.count(descPeerFrames, s.FramesIn, "in")
	out.count(descPeerFrames, s.FramesOut, "out")
	out.count(descPeerEvents, s.EventsIn, "in")
	out.count(descPeerEvents, s.EventsOut, "out")
	for reason, n := range s.Dropped {
		out.count(descPeerDropped, n, reason)
	}
	for reason, n := range s.Rejected {
		out.count(descPeerRejected, n, string(reason))
	}
	out.gauge(descClockSkew, s.ClockSkew.Seconds())
}
