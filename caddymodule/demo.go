package caddymodule

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/reject"
	client "github.com/edgerelay/edgerelay/clients/js"
	"github.com/edgerelay/edgerelay/examples/demo"
)

func init() {
	caddy.RegisterModule(DemoHandler{})
}

// DemoHandler serves the demo page at / with its files below /demo/. It publishes for the page with POST /publish, and
// switches plugins off and on with POST /demo/plugin. When the site first serves, the handler prints its address and
// next steps to standard output. The handler is for development and requires `auth none`.
type DemoHandler struct {
	// Admin is the address of Caddy's admin API, for the command that the page shows; "off" if there is none. The
	// Caddyfile's global option admin sets it.
	Admin string `json:"admin,omitempty" caddyfile:"-"`

	app    *App
	server *caddyhttp.Server
}

// CaddyModule returns the Caddy module information.
func (DemoHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edgerelay_demo", New: func() caddy.Module { return new(DemoHandler) }}
}

// Provision finds the app and rejects any `auth` but `auth none`.
func (h *DemoHandler) Provision(ctx caddy.Context) error {
	app, err := ctx.App("edgerelay")
	if err != nil {
		return err
	}
	h.app = app.(*App)
	if !h.app.config.OpenToAll {
		return errors.New("edgerelay_demo: any client may publish; " +
			"use auth none, or remove edgerelay_demo from this site")
	}
	h.server, _ = ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	h.app.demos = append(h.app.demos, h)
	if !h.app.node.HasConfig() && h.server != nil {
		h.app.portsUsed = errors.Join(h.app.portsUsed, checkPortsFree(h.server.Listen))
	}
	return nil
}

// checkPortsFree returns an error if another process listens on an address. Caddy itself shares the port of another
// Caddy, by SO_REUSEPORT, and each would get some of the requests. Addresses of this process are left out.
func checkPortsFree(listen []string) error {
	for _, text := range listen {
		a, err := caddy.ParseNetworkAddress(text)
		if err != nil || a.IsUnixNetwork() || a.IsFdNetwork() || a.StartPort == 0 {
			continue
		}
		host := a.JoinHostPort(0)
		if caddy.ListenerUsage(a.Network, host) > 0 {
			continue
		}
		l, err := net.Listen("tcp", host)
		if err != nil {
			return fmt.Errorf("edgerelay_demo: %w; stop the other program, or change the site's port", err)
		}
		_ = l.Close()
	}
	return nil
}

// demoPolicy restricts the page to its own scripts, its own style and its own server.
const demoPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *DemoHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case r.URL.Path == "/" && reads:
		return serveDemoPage(w, r)
	case r.URL.Path == "/publish" && r.Method == http.MethodPost:
		return h.publish(w, r)
	case r.URL.Path == "/demo/about" && reads:
		return admin.WriteJSON(w, h.about())
	case r.URL.Path == "/demo/plugin" && r.Method == http.MethodPost:
		return h.switchPlugin(w, r)
	case strings.HasPrefix(r.URL.Path, "/demo/") && reads:
		if serveDemoAsset(w, r) {
			return nil
		}
	}
	return next.ServeHTTP(w, r)
}

func serveDemoPage(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", demoPolicy)
	w.Header().Set("Cache-Control", "no-cache")
	// With the page, so that the cookie is there before the script connects. Not HttpOnly, as in Django: the script reads
	// the cookie.
	if _, err := r.Cookie("csrftoken"); err != nil {
		http.SetCookie(w, &http.Cookie{
			Name: "csrftoken", Value: rand.Text(), Path: "/",
			SameSite: http.SameSiteLaxMode,
		})
	}
	_, err := w.Write(demo.Page)
	return err
}

// serveDemoAsset serves a file of the page or of the browser client. It reports false if there is none.
func serveDemoAsset(w http.ResponseWriter, r *http.Request) bool {
	name := strings.TrimPrefix(r.URL.Path, "/demo/")
	b, err := fs.ReadFile(demo.Assets, name)
	if module, ok := strings.CutPrefix(name, "client/"); ok {
		b, err = fs.ReadFile(client.Dist, "dist/"+module)
	}
	if err != nil {
		return false
	}
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
	w.Header().Set("Content-Type", types[path.Ext(name)])
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
	return true
}

func (h *DemoHandler) publish(w http.ResponseWriter, r *http.Request) error {
	if !h.allowsPage(w, r) {
		return nil
	}
	receipt, status, err := admin.Publish(h.app.node, http.MaxBytesReader(w, r.Body, admin.MaxPublicationBytes), r)
	if err != nil {
		reject.Respond(w, r, status, "publish", err.Error())
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(receipt)
}

// allowsPage rejects requests of pages of other sites.
func (h *DemoHandler) allowsPage(w http.ResponseWriter, r *http.Request) bool {
	if allowsOrigin(h.app.Origins, r) {
		return true
	}
	reject.Respond(w, r, http.StatusForbidden, reject.OriginDenied.String(), "origin not allowed")
	return false
}

var (
	_ caddy.Provisioner           = (*DemoHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*DemoHandler)(nil)
)
