package admin

import (
	"cmp"
	"slices"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// maxHealthPeers bounds the nodes in the response of the health endpoints.
const maxHealthPeers = 100

// healthPeers describes the nodes of the backplane in the response of the health endpoints.
type healthPeers struct {
	backplane.PeerCount
	// Nodes lists the nodes, at most 100: those without a connection first, then those that are late.
	Nodes []peerHealth `json:"nodes"`
}

// peerHealth is the state of a node.
type peerHealth struct {
	// Peer is the URL that this node dials, or the name or host of a node that dialed this one.
	Peer string `json:"peer"`
	Name string `json:"name,omitempty"`
	// State is the state of the connection, Error the failure of the last attempt.
	State backplane.State `json:"state"`
	Error string          `json:"error,omitempty"`
	// Since is the time since when the node has been connected, or without a connection.
	Since time.Time `json:"since"`
	// Lag is the age of the oldest event queued for the node, in seconds.
	Lag float64 `json:"lag_seconds"`
	// LastLoss is the last loss of events for the node, or from it; absent without one.
	LastLoss *backplane.PeerLoss `json:"last_loss,omitempty"`
}

// peersHealth describes the nodes of the backplane; nil without a backplane.
func peersHealth(n *node.Node) *healthPeers {
	plane := n.Backplane.Load()
	if plane == nil {
		return nil
	}
	nodes := plane.Nodes()
	h := &healthPeers{PeerCount: backplane.CountNodes(nodes), Nodes: []peerHealth{}}
	for i := range nodes {
		p := &nodes[i]
		if p.State == backplane.StateSelf {
			continue
		}
		h.Nodes = append(h.Nodes, peerHealth{
			Peer: p.Label(), Name: p.Name, State: p.State, Error: p.Error, Since: p.Since, Lag: p.Lag,
			LastLoss: p.LastLoss,
		})
	}
	down := func(p peerHealth) int {
		if p.State == backplane.StateConnected {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(h.Nodes, func(x, y peerHealth) int {
		return cmp.Or(cmp.Compare(down(x), down(y)), -cmp.Compare(x.Lag, y.Lag))
	})
	h.Nodes = h.Nodes[:min(len(h.Nodes), maxHealthPeers)]
	return h
}
