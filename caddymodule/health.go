package caddymodule

import (
	"encoding/json"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

func init() {
	caddy.RegisterModule(HealthHandler{})
}

// HealthHandler answers GET and HEAD requests: 200 while events can reach this node, else 503, with the reason as JSON.
// It is for load balancers. In a Caddyfile it takes /health, or the requests of its matcher, as in
// edgerelay_health /healthz, or edgerelay_health * within a handle block. In JSON, the route's matcher says which
// requests it gets.
type HealthHandler struct {
	app *App
}

// CaddyModule returns the Caddy module information.
func (HealthHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edgerelay_health", New: func() caddy.Module { return new(HealthHandler) }}
}

// Provision finds the app.
func (h *HealthHandler) Provision(ctx caddy.Context) error {
	app, err := ctx.App("edgerelay")
	if err != nil {
		return err
	}
	h.app = app.(*App)
	h.app.watchFiles(ctx) // it must answer when descriptors are scarce
	return nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *HealthHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return next.ServeHTTP(w, r)
	}
	return h.app.node.writeHealth(w, false)
}

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
func (n *node) writeHealth(w http.ResponseWriter, details bool) error {
	stats := n.hub.Stats()
	s := status{Status: "unavailable", Connections: stats.Sessions, Groups: stats.Groups}
	if b := n.hub.Broker(); b != nil {
		s.ChannelLayer = b.Health()
	}
	code := http.StatusServiceUnavailable
	switch drain := n.hub.DrainStatus(); {
	case drain.State != "off":
		s.Status, s.Drain = "draining", &drain
	case s.ChannelLayer.OK:
		s.Status, code = "ok", http.StatusOK
	}
	if details {
		s.Plugins = n.pluginTroubles()
		s.LastLoss, s.Peers = n.lastLoss(), n.countPeers()
	} else {
		s.ChannelLayer.Detail = ""
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	return json.NewEncoder(w).Encode(s)
}

var (
	_ caddy.Provisioner           = (*HealthHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*HealthHandler)(nil)
)
