// Package publishing is the site directive `edgerelay_publish`: an HTTP endpoint by which programs publish messages on
// the site's port, with keys of its own. Package relay/protocol/publish has the endpoint itself; this package has its
// settings, and the state that outlives configurations.
package publishing

import (
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/docs"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/publish"
)

func init() {
	caddy.RegisterModule(Handler{})
}

const (
	// defaultPath is the default path of the endpoint. Publishers of GRIP add /publish/ to the address that they are
	// given, here https://<site>/edgerelay.
	defaultPath = "/edgerelay/publish"
	// descriptionPath is the path of the OpenAPI description below the endpoint's.
	descriptionPath = "/openapi.json"
)

// Handler is an endpoint by which programs publish messages to groups. Each request needs a key. The endpoint answers
// on its path, with and without a slash at the end, and serves its OpenAPI description at <path>/openapi.json.
type Handler struct {
	// Path is the path of the endpoint. Default: /edgerelay/publish.
	Path string `json:"path,omitempty"`
	// Keys may publish. At least one is required.
	Keys []*Key `json:"keys,omitempty" caddyfile:"key=<name> <secret> { … }"`
	// MaxBody is the greatest length of a request's body. Default: 1 MiB.
	MaxBody int64 `json:"max_body,omitempty" caddyfile:"<size>" min:"1"`
	// MaxMessages is the greatest number of publications in a request, counted by message and group. Default: 1000.
	MaxMessages int `json:"max_messages,omitempty" caddyfile:"<number>" min:"1"`
	// Idempotency is the time for which a second message with the same idempotency key is not sent again. "off" rejects
	// idempotency keys. At least 1s. Default: 5m.
	Idempotency *settings.DurationOrOff `json:"idempotency,omitempty" caddyfile:"<duration>|off" min:"1s"`
	// BodyTimeout is the time in which a request's body must arrive. Default: 10s.
	BodyTimeout caddy.Duration `json:"body_timeout,omitempty" caddyfile:"<duration>" min:"1"`

	node     *node.Node
	state    *State
	path     string // without a slash at the end
	place    request.Place
	endpoint *publish.Endpoint
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edgerelay_publish", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the app and checks the settings.
func (h *Handler) Provision(ctx caddy.Context) error {
	app, err := ctx.App("edgerelay")
	if err != nil {
		return err
	}
	h.node = app.(node.App).Node()
	state := StateOf(h.node)
	if h.path = h.Path; h.path == "" {
		h.path = defaultPath
	}
	if !strings.HasPrefix(h.path, "/") || path.Clean(h.path) == "/" {
		return fmt.Errorf("edgerelay_publish: invalid path %q; use a path such as %s", h.Path, defaultPath)
	}
	h.path = path.Clean(h.path)
	if err := settings.Check("edgerelay_publish", h); err != nil {
		return err
	}
	h.place = request.PlaceOf(ctx)
	if state.shadows(h) {
		return fmt.Errorf("edgerelay_publish: the path %s is served already; put all keys into one edgerelay_publish, "+
			"or use another path", h.path)
	}
	keys, err := provisionKeys(h.Keys, state)
	if err != nil {
		return fmt.Errorf("edgerelay_publish: %w", err)
	}
	h.endpoint = &publish.Endpoint{
		Keys: keys, Publisher: h.node.Hub, Claims: &state.claims, Unauthorized: &state.unauthorized, Log: h.node.Log,
		MaxBody: h.MaxBody, MaxMessages: h.MaxMessages, BodyTimeout: time.Duration(h.BodyTimeout),
		Idempotency: publish.DefaultIdempotency, Cleartext: isCleartext,
		Address: func(r *http.Request) string { return relay.AddressText(request.ClientAddress(r)) },
	}
	if h.MaxBody == 0 {
		h.endpoint.MaxBody = publish.DefaultMaxBody
	}
	if h.MaxMessages == 0 {
		h.endpoint.MaxMessages = publish.DefaultMaxMessages
	}
	if h.Idempotency != nil {
		h.endpoint.Idempotency = max(0, time.Duration(*h.Idempotency))
	}
	h.endpoint.Init()
	h.state = state
	h.state.add(h)
	return nil
}

// Cleanup removes the endpoint from the node's status.
func (h *Handler) Cleanup() error {
	if h.state != nil {
		h.state.remove(h)
	}
	return nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	description, ours := request.MatchOriginal(r, h.match)
	if !ours {
		return next.ServeHTTP(w, r)
	}
	if err := h.node.AwaitConfig(r.Context()); err != nil {
		w.Header().Set("Retry-After", "5")
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	return h.serve(w, r, description)
}

// serve answers a request to the endpoint or for its description.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, description bool) error {
	if !description {
		h.endpoint.ServeHTTP(w, r)
		return nil
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return nil
	}
	if h.endpoint.Authenticate(w, r) == nil {
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(docs.PublishOpenAPI)
	return err
}

// match reports whether a path is the endpoint's, and whether it is that of the description.
func (h *Handler) match(at string) (description, ours bool) {
	rest, ok := strings.CutPrefix(at, h.path)
	return rest == descriptionPath, ok && (rest == "" || rest == "/" || rest == descriptionPath)
}

// isCleartext reports whether the request came from outside without TLS, at this server or at a trusted proxy before
// it.
func isCleartext(r *http.Request) bool {
	if r.TLS != nil {
		return false
	}
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	if trusted && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return false
	}
	return isOutside(request.ClientAddress(r))
}

// isOutside reports whether an address is that of another network.
func isOutside(a netip.Addr) bool {
	return a.IsValid() && !a.IsLoopback() && !a.IsPrivate() && !a.IsLinkLocalUnicast()
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
