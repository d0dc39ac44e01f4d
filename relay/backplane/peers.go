package backplane

import (
	"cmp"
	"slices"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Peer is the state of one link, or of a target that is being dialed.
type Peer struct {
	// URL is set if this node dials, Address if the peer dialed.
	URL     string `json:"url,omitempty"`
	Address string `json:"address,omitempty"`
	// Found is set if this node dials a peer that no operator has named.
	Found bool `json:"-"`
	// Remote is the network address of a peer that this node dialed.
	Remote string `json:"-"`
	// Lost is the time since when a dialed address has been without a link.
	Lost time.Time `json:"-"`
	// Name, Node and Layer describe a relay: its name, the id of its run, and the identity of its channel layer.
	Name  string `json:"name,omitempty"`
	Node  string `json:"node,omitempty"`
	Layer string `json:"layer,omitempty"`
	// Version is the version of the relay; empty for relays that do not send it, and for Python peers.
	Version string `json:"version,omitempty"`
	// State is the current state, Error the failure of the last attempt.
	State State  `json:"state"`
	Error string `json:"error,omitempty"`
	// SegmentBytes bounds the packets of a link that this node dialed, since links with larger ones have stalled; 0: no
	// bound.
	SegmentBytes int `json:"segment_bytes,omitempty"`
	// Since is the start of the state.
	Since time.Time `json:"since"`
	// Dialect is broadcast, relay or edgerelay.
	Dialect Dialect `json:"dialect,omitempty"`
	// SameLayer is set if the peer is on this node's channel layer. Then no events are exchanged.
	SameLayer bool `json:"same_layer"`
	// Source is set if the events of the peer's layer come from this peer. Of several peers with one layer, one is
	// the source.
	Source bool `json:"source"`
	// Groups is the number of groups that the peer subscribes on this node.
	Groups int `json:"groups"`
	// RTT is the round-trip time of the last ping, ClockBehind the lag of the peer's clock, both in seconds. ClockError
	// bounds the error of ClockBehind. If it is 0, only the handshake of a dialing node tells the lag, which then
	// includes the network's delay.
	RTT         float64 `json:"rtt_seconds"`
	ClockBehind float64 `json:"clock_behind_seconds"`
	ClockError  float64 `json:"clock_error_seconds"`
	// Queued and QueuedBytes count the events queued for the peer; Lag is the age of the oldest, in seconds.
	Queued      int     `json:"queued"`
	QueuedBytes int     `json:"queued_bytes"`
	Lag         float64 `json:"lag_seconds"`
	// ArrivalLag is the largest time from an event's queueing at the peer to its arrival here, in the last 15 to 30
	// seconds, in seconds. It is 0 without events, and if the peer is of an earlier version.
	ArrivalLag float64 `json:"arrival_lag_seconds"`
	// Dropped counts events that did not fit into the queue, Faults the input of the peer that was dropped.
	Dropped uint64 `json:"dropped"`
	Faults  uint64 `json:"faults"`
	// EventsIn and EventsOut count the events exchanged over this link, in FramesIn and FramesOut WebSocket messages.
	// An event that is sent again, over this link or another one, counts once.
	EventsIn  uint64 `json:"events_in"`
	EventsOut uint64 `json:"events_out"`
	FramesIn  uint64 `json:"frames_in"`
	FramesOut uint64 `json:"frames_out"`
}

// Peers lists all links, and the addresses that are being dialed; those that this node dials come first.
// [Backplane.Nodes] sums them by node.
func (b *Backplane) Peers() []Peer {
	peers := []Peer{}
	b.mu.Lock()
	dialers := make([]*dialer, 0, len(b.dialers))
	for _, d := range b.dialers {
		dialers = append(dialers, d)
	}
	b.mu.Unlock()
	for _, d := range dialers {
		d.mu.Lock()
		l, p := d.link, Peer{
			URL: d.target.URL, Found: d.target.Found, Node: d.node, State: d.state, Since: d.since, Lost: d.lost,
		}
		if d.err != nil && (d.state != StateConnected || l != nil && l.isStalled()) {
			p.Error = d.err.Error()
		}
		d.mu.Unlock()
		if l != nil {
			l.describe(&p)
		}
		peers = append(peers, p)
	}
	for _, l := range b.allLinks() {
		if !l.dialed {
			p := Peer{Address: l.address, State: StateConnected, Since: l.began}
			l.describe(&p)
			peers = append(peers, p)
		}
	}
	slices.SortFunc(peers, func(x, y Peer) int {
		return cmp.Or(-cmp.Compare(x.URL, y.URL), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Address, y.Address))
	})
	return peers
}

func (l *link) describe(p *Peer) {
	p.Name, p.Node, p.Version, p.Dialect, p.Remote = l.name, l.node, l.version, l.dialect, l.remote
	p.SegmentBytes = l.segment
	if l.isStalled() {
		p.State, p.Since = StateStalled, relay.At(l.vitals.stalled.Load())
		p.Error = "no sign of life; " + cmp.Or(p.Error, "waiting for another link")
	}
	own := l.b.ownLayer()
	l.b.interest.mu.Lock()
	p.Layer = l.peer.layer
	l.b.interest.mu.Unlock()
	if l.dialect == EdgeRelay {
		p.SameLayer = own != "" && p.Layer == own
		p.Source = l.phase().isSource()
	} else {
		p.SameLayer = l.phase() == phaseSameLayer
		p.Source = l.phase() == phaseSeparate && l.dialed == (l.dialect == Broadcast)
	}
	queue, groups := l.queue, &l.groupSet
	if s := l.stream.Load(); s != nil && s.has(l) {
		queue, groups = s.queue, &s.groupSet
	} else if s := l.backlog.Load(); s != nil {
		queue, groups = s.queue, &s.groupSet
	}
	p.Groups = groups.size()
	p.RTT = time.Duration(l.rtt.Load()).Seconds()
	behind, within := l.clockBehind(time.Now())
	p.ClockBehind, p.ClockError = behind.Seconds(), within.Seconds()
	var since time.Time
	if p.Queued, p.QueuedBytes, since = queue.load(); !since.IsZero() {
		p.Lag = time.Since(since).Seconds()
	}
	if l.in != nil && p.Source {
		p.ArrivalLag = l.in.lateness.largest(time.Now()).Seconds()
	}
	p.Dropped, p.Faults = l.dropped.Load(), l.faults.Load()
	p.EventsIn, p.EventsOut = l.eventsIn.Load(), l.eventsOut.Load()
	p.FramesIn, p.FramesOut = l.framesIn.Load(), l.framesOut.Load()
}

// Status is the state of this node and its peers.
type Status struct {
	// Node is the id of this node's run, Name its name, Layer the identity of its channel layer.
	Node  string `json:"node"`
	Name  string `json:"name"`
	Layer string `json:"layer"`
	// Peers has one entry for each other node, and one for each address that is this node's own.
	Peers []PeerNode `json:"peers"`
	// Dropped counts dropped events and messages of all links since the start, by reason.
	Dropped map[string]uint64 `json:"dropped"`
}

// Status returns the state of this node and all peers.
func (b *Backplane) Status() Status {
	return Status{
		Node: b.id, Name: b.settings.Load().Name, Layer: b.ownLayer(), Peers: b.Nodes(), Dropped: b.Stats().Dropped,
	}
}
