package caddymodule

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

func init() {
	caddy.RegisterModule(HealthHandler{})
}

// HealthHandler answers load balancers' GET and HEAD requests: 200 while events can reach this node, else 503, with the
// reason as JSON. In a Caddyfile it serves /health, or the requests of its matcher, as in edgerelay_health /healthz or,
// within a handle block, edgerelay_health *. In JSON, the route's matcher selects the requests.
type HealthHandler struct {
	app *App
}

// CaddyModule returns the Caddy module information.
func (HealthHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.edgerelay_health",
		New: func() caddy.Module { return new(HealthHandler) },
	}
}

// Provision finds the app.
func (h *HealthHandler) Provision(ctx caddy.Context) error {
	app, err := ctx.App("edgerelay")
	if err != nil {
		return err
	}
	h.app = app.(*App)
	h.app.watchServer(ctx) // health must answer even when descriptors are scarce
	return nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *HealthHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return next.ServeHTTP(w, r)
	}
	return admin.WriteHealth(h.app.node, w, false)
}

var (
	_ caddy.Provisioner           = (*HealthHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*HealthHandler)(nil)
)
