package console

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay"
)

func init() {
	caddy.RegisterModule(ConsoleHandler{})
	// Not as a handler: that would take the path for a matcher.
	httpcaddyfile.RegisterDirective("edgerelay_console", parseConsole)
	httpcaddyfile.RegisterDirectiveOrder("edgerelay_console", httpcaddyfile.After, "request_header")
}

// defaultConsole is where the console is unless the configuration says otherwise.
const defaultConsole = "/edgerelay/"

// ConsoleHandler serves a live view of the relay to operators: one page, which reads and changes nothing. Who asks is authenticated as
// for a websocket, and must be an operator.
type ConsoleHandler struct {
	// Path is where the console is. Default: /edgerelay/.
	Path string `json:"path,omitempty"`
	// Operators are the ids or names of the users who may see it. Default: AWX's superusers; with `auth none` everybody.
	Operators []string `json:"operators,omitempty" caddyfile:"<user>..."`

	node   *node.Node
	config *node.Config
	path   string // with a slash at the end
}

// CaddyModule returns the Caddy module information.
func (ConsoleHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edgerelay_console", New: func() caddy.Module { return new(ConsoleHandler) }}
}

// Provision finds the app.
func (h *ConsoleHandler) Provision(ctx caddy.Context) error {
	app, err := ctx.App("edgerelay")
	if err != nil {
		return err
	}
	host := app.(node.App)
	h.node, h.config = host.Node(), host.Config()
	if h.path = h.Path; h.path == "" {
		h.path = defaultConsole
	}
	if !strings.HasPrefix(h.path, "/") || path.Clean(h.path) == "/" {
		return fmt.Errorf("edgerelay_console: %q cannot be its path; write one like /edgerelay/", h.Path)
	}
	h.path = strings.TrimSuffix(h.path, "/") + "/"
	if h.config.LacksSuperusers && len(h.Operators) == 0 {
		return errors.New("edgerelay_console: auth caddy knows no superusers; say who may see the console: edgerelay_console { operators <user>… }")
	}
	return nil
}

//go:embed page.html
var consolePage []byte

// consolePolicy lets the page run its own script and speak to its own server, and nothing else.
var consolePolicy = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	inlineHash("script"), inlineHash("style"))

// inlineHash is the hash of the page's one element of a kind, as a policy names it.
func inlineHash(tag string) string {
	_, rest, _ := bytes.Cut(consolePage, []byte("<"+tag+">"))
	text, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
	sum := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *ConsoleHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.URL.Path+"/" == h.path {
		w.Header().Set("Location", path.Base(h.path)+"/") // relative, so that it holds behind a prefix
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	what, ours := strings.CutPrefix(r.URL.Path, h.path)
	if !ours || what != "" && what != "overview" && what != "tail" {
		return next.ServeHTTP(w, r)
	}
	header := w.Header()
	header.Set("Content-Security-Policy", consolePolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		reject.Respond(w, r, http.StatusMethodNotAllowed, "method", "the console is for reading")
		return nil
	}
	if from := r.Header.Get("Sec-Fetch-Site"); what != "" && from != "" && from != "same-origin" && from != "none" {
		reject.Respond(w, r, http.StatusForbidden, "cross_site", "another site may not read this")
		return nil
	}
	id, status, reason, err := h.operator(r)
	if err != nil {
		reject.Respond(w, r, status, reason, err.Error())
		return nil
	}
	switch what {
	case "overview":
		return admin.ServeOverview(h.node, w, r)
	case "tail":
		return h.serveTail(w, r, id)
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	_, err = w.Write(consolePage)
	return err
}

// operator identifies the client, and reports whether it is an operator. With an error come the status and the reason of the
// refusal.
func (h *ConsoleHandler) operator(r *http.Request) (id relay.Identity, status int, reason string, err error) {
	id, err = h.config.Authorizer.Authenticate(r)
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		return id, http.StatusUnauthorized, reject.NotLoggedIn.String(), errors.New("not logged in: log in as an operator, then come back")
	case err != nil:
		if r.Context().Err() == nil { // a page that is gone is no fault of the authority
			h.config.Log.Warn("the console cannot find out who asks", "error", err)
		}
		return id, http.StatusServiceUnavailable, reject.AuthFailed.String(), errors.New("authentication is unavailable")
	case h.allows(id):
		return id, 0, "", nil
	}
	return id, http.StatusForbidden, "not_operator", errors.New("the console is for operators only")
}

func (h *ConsoleHandler) allows(id relay.Identity) bool {
	if len(h.Operators) == 0 {
		return h.config.OpenToAll || id.Kind == relay.Superuser
	}
	// A number is a user's id: somebody else may have chosen it for a name.
	named := id.Name != "" && strings.Trim(id.Name, "0123456789") != "" && slices.Contains(h.Operators, id.Name)
	return named || id.Key != "" && slices.Contains(h.Operators, id.Key)
}

// parseConsole reads `edgerelay_console [<path>] { … }`.
func parseConsole(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	handler := &ConsoleHandler{}
	if h.NextArg() {
		if handler.Path = h.Val(); !strings.HasPrefix(handler.Path, "/") {
			return nil, h.Errf("edgerelay_console takes a path like %s, not %q; what a matcher would do, a handle block around it does", defaultConsole, handler.Path)
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
	_ caddy.Provisioner           = (*ConsoleHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*ConsoleHandler)(nil)
)
