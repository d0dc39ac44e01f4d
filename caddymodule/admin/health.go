package admin

import (
	"encoding/json"
	"net/http"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// status is what health endpoints answer.
type status struct {
	// Status is "ok", "draining" while clients are sent to other nodes and afterwards, or "unavailable".
	Status string `json:"status"`
	// ChannelLayer is the state of the channel layer.
	ChannelLayer relay.Health `json:"channel_layer"`
	// Connections and Groups are how many there are on this node.
	Connections int `json:"connections"`
	Groups      int `json:"groups"`
	// Drain tells how far a drain is.
	Drain *hub.DrainStatus `json:"drain,omitempty"`
	// LastLoss tells of the last events that were lost, or may have been.
	LastLoss *lossStatus `json:"last_loss,omitempty"`
	// Peers counts the nodes of the backplane, which do not make this node unavailable; absent without one.
	Peers *peerCount `json:"peers,omitempty"`
	// Plugins tells of plugins that do not do their work: see GET /edgerelay/plugins.
	Plugins []pluginTrouble `json:"plugins,omitempty"`
}

// writeHealth answers with the node's state; in public without details of addresses.
func WriteHealth(n *node.Node, w http.ResponseWriter, details bool) error {
	stats := n.Hub.Stats()
	s := status{Status: "unavailable", Connections: stats.Sessions, Groups: stats.Groups}
	if b := n.Hub.Broker(); b != nil {
		s.ChannelLayer = b.Health()
	}
	code := http.StatusServiceUnavailable
	switch drain := n.Hub.DrainStatus(); {
	case drain.State != "off":
		s.Status, s.Drain = "draining", &drain
	case s.ChannelLayer.OK:
		s.Status, code = "ok", http.StatusOK
	}
	if details {
		s.Plugins = pluginTroubles(n)
		s.LastLoss, s.Peers = lastLoss(n), countPeers(n)
	} else {
		s.ChannelLayer.Detail = ""
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	return json.NewEncoder(w).Encode(s)
}
