package backplane

import (
	"cmp"
	"net"
	"net/url"
	"slices"
)

// PeerNode is another node, with all its links. The embedded fields describe the node: counters are sums of all links,
// times and addresses those of the link that carries the events.
type PeerNode struct {
	Peer
	// Expected is set if the settings or a discovery name the node. Other nodes have dialed this one.
	Expected bool `json:"expected"`
	// LastLoss is the last loss of events for the node, or from it; nil without one.
	LastLoss *PeerLoss `json:"last_loss,omitempty"`
	// Links lists the links, and the addresses that are being dialed, if there are several.
	Links []Peer `json:"links,omitempty"`
}

// Label names the node in metrics: the URL that this node dials, else its name, else its host.
func (n *PeerNode) Label() string {
	if label := cmp.Or(n.URL, n.Name); label != "" {
		return label
	}
	host, _, _ := net.SplitHostPort(n.Address)
	return host
}

// Nodes lists the nodes of the backplane, each once, however many links there are to it. An address that is this node's
// own is listed with the state self. A relay is connected if any link to it is. A Python node that this node dials has
// the state of that connection, since each direction has a connection of its own.
func (b *Backplane) Nodes() []PeerNode {
	peers := b.Peers()
	pythons := newPythonHosts(peers)
	var keys []string
	links := map[string][]Peer{}
	for _, p := range peers {
		key := "node " + p.Node
		switch {
		case p.Node != "":
		case p.URL != "":
			key = "url " + p.URL
		default:
			key = pythons.key(p)
		}
		if links[key] == nil {
			keys = append(keys, key)
		}
		links[key] = append(links[key], p)
	}
	nodes := make([]PeerNode, 0, len(keys))
	for _, key := range keys {
		n := sumLinks(links[key])
		n.LastLoss = b.stats.lastLoss(cmp.Or(n.Name, n.URL, n.Address))
		nodes = append(nodes, n)
	}
	return nodes
}

// sumLinks returns the node of links.
func sumLinks(links []Peer) PeerNode {
	slices.SortStableFunc(links, func(x, y Peer) int { return cmp.Compare(x.rank(), y.rank()) })
	n := PeerNode{Peer: links[0]}
	if len(links) > 1 {
		n.Links = links
	}
	for i, p := range links {
		n.Expected = n.Expected || p.URL != "" && p.State != StateSelf
		if n.URL == "" {
			n.URL, n.Found = p.URL, p.Found
		}
		if i == 0 {
			continue
		}
		n.Version = cmp.Or(n.Version, p.Version)
		n.Name, n.Address, n.Error = cmp.Or(n.Name, p.Name), cmp.Or(n.Address, p.Address), cmp.Or(n.Error, p.Error)
		if n.State == StateConnected && p.State == StateConnected && p.Since.Before(n.Since) {
			n.Since = p.Since
		}
		n.Source = n.Source || p.Source
		n.Groups, n.Lag = max(n.Groups, p.Groups), max(n.Lag, p.Lag)
		n.ArrivalLag = max(n.ArrivalLag, p.ArrivalLag)
		n.RTT = cmp.Or(n.RTT, p.RTT)
		if n.ClockError == 0 && p.ClockError > 0 {
			n.ClockBehind, n.ClockError = p.ClockBehind, p.ClockError
		}
		n.Queued, n.QueuedBytes = n.Queued+p.Queued, n.QueuedBytes+p.QueuedBytes
		n.Dropped, n.Faults = n.Dropped+p.Dropped, n.Faults+p.Faults
		n.EventsIn, n.EventsOut = n.EventsIn+p.EventsIn, n.EventsOut+p.EventsOut
		n.FramesIn, n.FramesOut = n.FramesIn+p.FramesIn, n.FramesOut+p.FramesOut
	}
	switch n.State {
	case StateConnected:
		n.Error = ""
	case StateRedundant: // the other link has ended, and this one is not dialed again yet
		n.State = StateConnecting
	case StateConnecting, StateWaiting, StateRejected:
		n.Since = links[0].Lost
	}
	return n
}

// rank orders the links of a node: the one whose state is the node's comes first.
func (p Peer) rank() int {
	switch {
	case p.URL != "" && p.Node == "": // a Python node, or one that was never reached
		return 0
	case p.State == StateConnected && p.Source:
		return 1
	case p.State == StateConnected:
		return 2
	case p.State == StateStalled: // the node has a link, whichever side dials beside it
		return 3
	case p.State == StateRedundant:
		return 5
	}
	return 4
}

// pythonHosts finds the node that a Python node which dialed this one is. Such a node says nothing about itself, so its
// host decides, as long as the host is that of one node alone.
type pythonHosts struct {
	dialed   map[string][]string // URLs by IP address
	accepted map[string]int      // links by IP address and dialect
}

func newPythonHosts(peers []Peer) pythonHosts {
	h := pythonHosts{map[string][]string{}, map[string]int{}}
	for _, p := range peers {
		switch {
		case p.Node != "":
		case p.URL != "":
			h.dialed[p.host()] = append(h.dialed[p.host()], p.URL)
		default:
			h.accepted[p.host()+" "+string(p.Dialect)]++
		}
	}
	return h
}

func (h pythonHosts) key(p Peer) string {
	urls := h.dialed[p.host()]
	if len(urls) == 1 && h.accepted[p.host()+" "+string(p.Dialect)] == 1 {
		return "url " + urls[0]
	}
	return "address " + p.Address
}

// host returns the network address of a peer without its port, or the host in its URL if there is no link.
func (p Peer) host() string {
	if host, _, err := net.SplitHostPort(cmp.Or(p.Remote, p.Address)); err == nil {
		return host
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// PeerCount counts the nodes of the backplane other than this one.
type PeerCount struct {
	// Connected counts the nodes with a link, Known all nodes.
	Connected int `json:"connected"`
	Known     int `json:"known"`
	// Expected counts the nodes that the settings or a discovery name, and Missing those of them without a link.
	Expected int `json:"expected"`
	Missing  int `json:"missing"`
}

// CountNodes counts nodes.
func CountNodes(nodes []PeerNode) (c PeerCount) {
	for _, n := range nodes {
		if n.State == StateSelf {
			continue
		}
		c.Known++
		up := n.State == StateConnected
		if up {
			c.Connected++
		}
		if n.Expected {
			c.Expected++
			if !up {
				c.Missing++
			}
		}
	}
	return c
}
