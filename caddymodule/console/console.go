// Package console is the handler `edgerelay_console`: a page for operators with a live view of the node, the views that
// the page polls, and actions for operators who may act. A request for a view goes through [Handler.ServeHTTP]; a
// request for an action also goes through serveAction, which holds all checks.
package console

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

func init() {
	caddy.RegisterModule(Handler{})
	// RegisterHandlerDirective would parse the path as a matcher.
	httpcaddyfile.RegisterDirective("edgerelay_console", parseConsole)
	httpcaddyfile.RegisterDirectiveOrder("edgerelay_console", httpcaddyfile.After, "request_header")
}

// defaultPath is the default path of the console.
const defaultPath = "/edgerelay/"

// Handler serves a live view of the node to operators, and actions to operators who may act. Requests are authenticated
// like handshakes; the user must be an operator.
type Handler struct {
	// Path is the path of the console. Default: /edgerelay/.
	Path string `json:"path,omitempty"`
	// Operators are the ids or names of users with access. Default: AWX's superusers; with `auth none` every client.
	Operators []string `json:"operators,omitempty" caddyfile:"<user>..."`

	// Actions lets operators close connections, drain the node, return to earlier modules of plugins, and replay events.
	// Default: off, the console is read-only.
	Actions bool `json:"actions,omitempty" caddyfile:"on|off"`
	// Actors are the ids or names of the operators who may act. Default: with `actions on`, all operators.
	Actors []string `json:"actors,omitempty" caddyfile:"<user>..."`
	// Uploads lets actors upload modules of plugins, too. Default: off.
	Uploads bool `json:"uploads,omitempty" caddyfile:"on|off"`
	// Registries lets actors deploy modules of plugins from OCI registries, too: from repositories at or below these
	// prefixes, such as registry.example.com/plugins. The node pulls, with its credentials. Default: none.
	Registries []string `json:"registries,omitempty" caddyfile:"<prefix>..." example:"registry.example.com/plugins"`

	node   *node.Node
	config *node.Config
	path   string // ends with a slash
	place  request.Place
	// registries are Registries without slashes at their ends.
	registries []string
}

// Location returns the path of the console, with a slash at the end.
func (h *Handler) Location() string { return h.path }

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edgerelay_console", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the app.
func (h *Handler) Provision(ctx caddy.Context) error {
	app, err := ctx.App("edgerelay")
	if err != nil {
		return err
	}
	host := app.(node.App)
	h.node, h.config = host.Node(), host.Config()
	if h.path = h.Path; h.path == "" {
		h.path = defaultPath
	}
	if !strings.HasPrefix(h.path, "/") || path.Clean(h.path) == "/" {
		return fmt.Errorf("edgerelay_console: invalid path %q; use a path such as /edgerelay/", h.Path)
	}
	h.path = strings.TrimSuffix(h.path, "/") + "/"
	h.place = request.PlaceOf(ctx)
	for _, other := range h.config.Consoles {
		if earlier := other.(*Handler); earlier.path == h.path && h.place.IsBehind(earlier.place, earlier) {
			return fmt.Errorf("edgerelay_console: the path %s is served already; remove one edgerelay_console, or use "+
				"another path", h.path)
		}
	}
	h.config.Consoles = append(h.config.Consoles, h)
	replaced := placeholders.New()
	for _, list := range []struct {
		setting string
		users   []string
	}{{"operators", h.Operators}, {"actors", h.Actors}} {
		for i, user := range list.users {
			list.users[i] = replaced.In(list.setting, user)
		}
	}
	if err := replaced.Err(); err != nil {
		return fmt.Errorf("edgerelay_console: %w", err)
	}
	if h.config.LacksSuperusers && len(h.Operators) == 0 {
		return fmt.Errorf("edgerelay_console: auth %s has no superusers; name the operators by 'operators <user>…' "+
			"in a block of edgerelay_console", h.config.AuthKind)
	}
	if !h.Actions && (len(h.Actors) > 0 || h.Uploads || len(h.Registries) > 0) {
		return errors.New("edgerelay_console: actors, uploads and registries are without effect; " +
			"add 'actions on', or remove them")
	}
	if h.registries, err = checkRegistries(h.Registries); err != nil {
		return err
	}
	if h.Actions && h.config.OpenToAll && len(h.Operators) == 0 {
		h.config.Log.Warn("console actions are open to every client", "remedy", "use auth none for development only")
	}
	return nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.URL.Path+"/" == h.path {
		w.Header().Set("Location", path.Base(h.path)+"/") // relative, for proxies that strip a prefix
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	resource, ok := strings.CutPrefix(r.URL.Path, h.path)
	view, isView := views[resource]
	action, isAction := actions[strings.TrimPrefix(resource, actionsPath)]
	isAction = isAction && strings.HasPrefix(resource, actionsPath)
	if !ok || !isView && !isAction {
		return next.ServeHTTP(w, r)
	}
	setHeaders(w.Header())
	if isAction {
		h.serveAction(w, r, strings.TrimPrefix(resource, actionsPath), action)
		return nil
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		reject.Respond(w, r, http.StatusMethodNotAllowed, "method", "this part of the console is read-only")
		return nil
	}
	if from := r.Header.Get("Sec-Fetch-Site"); resource != "" && from != "" && from != "same-origin" && from != "none" {
		reject.Respond(w, r, http.StatusForbidden, "cross_site", "cross-site requests are not allowed")
		return nil
	}
	id, refused := h.operator(r)
	if refused != nil {
		refused.respond(w, r)
		return nil
	}
	answer(w, r, view(h, w, r, id))
	return nil
}

// parseConsole reads `edgerelay_console [<path>] { … }`.
func parseConsole(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	handler := &Handler{}
	if h.NextArg() {
		if handler.Path = h.Val(); !strings.HasPrefix(handler.Path, "/") {
			return nil, h.Errf("edgerelay_console: invalid path %q; use a path such as %s, "+
				"and a handle block in place of a matcher", handler.Path, defaultPath)
		}
	}
	if h.NextArg() {
		return nil, h.ArgErr()
	}
	if err := settings.Read(h.Dispenser, "edgerelay_console", handler); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, handler), nil
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
