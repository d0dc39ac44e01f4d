package admin

import (
	"encoding/json"
	"net/http"

	"github.com/edgerelay/edgerelay/caddymodule/node"
)

// health is the response of the health endpoints.
type health struct {
	// Status is "ok", "draining" from the start of a drain on, or "unavailable".
	Status string `json:"status"`
	// ChannelLayer is the state of the channel layer.
	ChannelLayer LayerHealth `json:"channel_layer"`
	// Connections and Groups are the numbers of this node.
	Connections int `json:"connections"`
	Groups      int `json:"groups"`
	// Drain is the progress of a drain; absent without a drain.
	Drain *DrainStatus `json:"drain,omitempty"`
	// LastLoss describes the last loss, certain or possible; absent without a loss.
	LastLoss *Loss `json:"last_loss,omitempty"`
	// Peers describes the nodes of the backplane. Peers do not affect Status. Absent without a backplane.
	Peers *healthPeers `json:"peers,omitempty"`
	// HistoryTrouble describes why the histories of groups are not kept at the moment; absent if they are. It does not
	// affect Status: events reach the clients.
	HistoryTrouble string `json:"history_trouble,omitempty"`
	// Plugins lists unhealthy plugins; GET /edgerelay/plugins lists all.
	Plugins []UnhealthyPlugin `json:"plugins,omitempty"`
}

// WriteHealth writes the node's health. The status is 200 while events can reach the node, else 503. Without details,
// the response omits addresses, error texts, peers and plugins, so that a site may publish the response.
func WriteHealth(n *node.Node, w http.ResponseWriter, details bool) error {
	stats := n.Hub.Stats()
	s := health{Status: "unavailable", Connections: stats.Sessions, Groups: stats.Groups}
	if b := n.Hub.Broker(); b != nil {
		s.ChannelLayer = LayerHealth(b.Health())
	}
	code := http.StatusServiceUnavailable
	switch drain := DrainStatus(n.Hub.DrainStatus()); {
	case drain.State != "off":
		s.Status, s.Drain = "draining", &drain
	case s.ChannelLayer.OK:
		s.Status, code = "ok", http.StatusOK
	}
	if details {
		s.Plugins = unhealthyPlugins(n)
		s.LastLoss, s.Peers = lastLoss(n), peersHealth(n)
		if h := historyStatus(n); h != nil {
			s.HistoryTrouble = h.Trouble
		}
	} else {
		s.ChannelLayer.Detail = ""
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	return json.NewEncoder(w).Encode(s)
}

// serveHealth writes the node's health with all details.
func serveHealth(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	return WriteHealth(n, w, true)
}

// serveLive responds while the process can serve requests.
func serveLive(_ *node.Node, w http.ResponseWriter, _ *http.Request) error {
	return WriteJSON(w, map[string]string{"status": "ok"})
}
