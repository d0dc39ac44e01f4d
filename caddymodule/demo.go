package caddymodule

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/examples/demo"
)

func init() {
	caddy.RegisterModule(DemoHandler{})
}

// DemoHandler serves the demo page at / and publishes for the page with POST /publish. The handler is for development
// and requires `auth none`.
type DemoHandler struct {
	app *App
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
	return nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *DemoHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch {
	case r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		// Not HttpOnly, as in Django: the page's script reads the cookie.
		if _, err := r.Cookie("csrftoken"); err != nil {
			http.SetCookie(w, &http.Cookie{
				Name: "csrftoken", Value: rand.Text(), Path: "/",
				SameSite: http.SameSiteLaxMode,
			})
		}
		_, err := w.Write(demo.Page)
		return err
	case r.URL.Path == "/publish" && r.Method == http.MethodPost:
		if !allowsOrigin(h.app.Origins, r) {
			reject.Respond(w, r, http.StatusForbidden, reject.OriginDenied.String(), "origin not allowed")
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
	return next.ServeHTTP(w, r)
}

var (
	_ caddy.Provisioner           = (*DemoHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*DemoHandler)(nil)
)
