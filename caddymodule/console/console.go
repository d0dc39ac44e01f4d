// Package console is the handler `edgerelay_console`: a page for operators with a live view of the node, and the tails
// that the page polls.
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
	caddy.RegisterModule(Handler{})
	// RegisterHandlerDirective would parse the path as a matcher.
	httpcaddyfile.RegisterDirective("edgerelay_console", parseConsole)
	httpcaddyfile.RegisterDirectiveOrder("edgerelay_console", httpcaddyfile.After, "request_header")
}

// defaultPath is the default path of the console.
const defaultPath = "/edgerelay/"

// Handler serves a live, read-only view of the node to operators. Requests are authenticated like handshakes; the user
// must be an operator.
type Handler struct {
	// Path is the path of the console. Default: /edgerelay/.
	Path string `json:"path,omitempty"`
	// Operators are the ids or names of users with access. Default: AWX's superusers; with `auth none` every client.
	Operators []string `json:"operators,omitempty" caddyfile:"<user>..."`

	node   *node.Node
	config *node.Config
	path   string // ends with a slash
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
	if h.config.LacksSuperusers && len(h.Operators) == 0 {
		return errors.New("edgerelay_console: auth caddy has no superusers; " +
			"name the operators: edgerelay_console { operators <user>… }")
	}
	return nil
}

//go:embed page.html
var page []byte

// contentPolicy restricts the page to its own script, its own style and its own server.
var contentPolicy = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; "+
	"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	inlineHash("script"), inlineHash("style"))

// inlineHash returns the hash of the page's only element of a kind, in the syntax of a policy.
func inlineHash(tag string) string {
	_, rest, _ := bytes.Cut(page, []byte("<"+tag+">"))
	text, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
	sum := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.URL.Path+"/" == h.path {
		w.Header().Set("Location", path.Base(h.path)+"/") // relative, for proxies that strip a prefix
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	resource, ok := strings.CutPrefix(r.URL.Path, h.path)
	if !ok || resource != "" && resource != "overview" && resource != "tail" {
		return next.ServeHTTP(w, r)
	}
	header := w.Header()
	header.Set("Content-Security-Policy", contentPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		reject.Respond(w, r, http.StatusMethodNotAllowed, "method", "the console is read-only")
		return nil
	}
	if from := r.Header.Get("Sec-Fetch-Site"); resource != "" && from != "" && from != "same-origin" && from != "none" {
		reject.Respond(w, r, http.StatusForbidden, "cross_site", "cross-site requests are not allowed")
		return nil
	}
	id, status, reason, err := h.operator(r)
	if err != nil {
		reject.Respond(w, r, status, reason, err.Error())
		return nil
	}
	switch resource {
	case "overview":
		return admin.ServeOverview(h.node, w, r)
	case "tail":
		return h.serveTail(w, r, id)
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	_, err = w.Write(page)
	return err
}

var (
	errNotLoggedIn     = errors.New("not logged in; log in as an operator, then reload the page")
	errAuthUnavailable = errors.New("authentication is unavailable")
	errNotOperator     = errors.New("the console is for operators only")
)

// operator authenticates the request, and returns an error with status and reason unless the user is an operator.
func (h *Handler) operator(r *http.Request) (id relay.Identity, status int, reason string, err error) {
	id, err = h.config.Authorizer.Authenticate(r)
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		return id, http.StatusUnauthorized, reject.NotLoggedIn.String(), errNotLoggedIn
	case err != nil:
		if r.Context().Err() == nil { // else the page was closed, and the authority is not at fault
			h.config.Log.Warn("console request not authenticated", "error", err)
		}
		return id, http.StatusServiceUnavailable, reject.AuthFailed.String(), errAuthUnavailable
	case h.allows(id):
		return id, 0, "", nil
	}
	return id, http.StatusForbidden, "not_operator", errNotOperator
}

// allows reports whether the user is an operator.
func (h *Handler) allows(id relay.Identity) bool {
	if len(h.Operators) == 0 {
		return h.config.OpenToAll || id.Kind == relay.Superuser
	}
	// A number matches ids only: another user may have chosen the number as a name.
	named := id.Name != "" && strings.Trim(id.Name, "0123456789") != "" && slices.Contains(h.Operators, id.Name)
	return named || id.Key != "" && slices.Contains(h.Operators, id.Key)
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
