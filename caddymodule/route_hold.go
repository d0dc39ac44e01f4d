package caddymodule

import (
	"errors"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// RouteHold lets a site hold its responses to ordinary requests, by GRIP: event streams and long polls. The next
// handler passes the clients' requests to the site. The relay itself sends the requests that follow, such as for items
// that a client has missed.
type RouteHold struct {
	// URL is the address of the site: http://host:port, https://…, or uWSGI's socket, such as uwsgi://127.0.0.1:8050 or
	// uwsgi+unix:///run/site/uwsgi.sock. A route with messages backend has that site, and needs no other. "off" lets that
	// site hold no responses.
	URL string `json:"url,omitempty"`
	// Concurrency bounds the concurrent requests of the relay itself. Default: 32.
	Concurrency int `json:"concurrency,omitempty" caddyfile:"<requests>" min:"1"`
	// Queue bounds the clients that wait for a request. Beyond it, they wait for another try. At most 1000000.
	// Default: 4096.
	Queue int `json:"queue,omitempty" caddyfile:"<clients>" min:"1" max:"1000000"`
	// Timeout bounds a request, and the wait for it. Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// Grip signs the requests, also those of clients. Without it, requests are not signed.
	Grip *RouteGrip `json:"grip,omitempty" caddyfile:"{ … }"`
}

// holdOff is the address that lets the site of messages backend hold no responses.
const holdOff = "off"

// read reads the URL and the block of hold.
func (b *RouteHold) read(d *caddyfile.Dispenser) error {
	if !d.Args(&b.URL) {
		return d.Err("hold takes the address of the site, such as: hold http://127.0.0.1:8000")
	}
	return settings.Read(d, "hold", b)
}

// servesSockets reports whether the route opens WebSockets. Otherwise it only holds responses.
func (rt *Route) servesSockets() bool {
	return rt.Hold == nil || len(rt.Groups) > 0 || rt.Messages != nil || rt.Function != nil
}

// provisionHold finds the site that may hold responses of the route. It comes after the backend of the messages.
func (rt *Route) provisionHold(ctx caddy.Context, app *App) error {
	backend, hold := rt.backend(), rt.Hold
	switch {
	case hold == nil && backend == nil, hold != nil && hold.URL == holdOff && backend != nil:
		return nil
	case hold == nil:
		rt.site = backend.to
		return nil
	case hold.URL == holdOff:
		return errors.New("off is for a route with messages backend; leave hold out")
	case backend != nil:
		return errors.New("the site of messages backend holds the responses; remove hold, or use 'hold off'")
	}
	if hold.URL == "" {
		return errors.New("the address of the site is missing; use one such as http://127.0.0.1:8000")
	}
	s, err := (&RouteBackend{
		URL: hold.URL, Concurrency: hold.Concurrency, Queue: hold.Queue, Timeout: hold.Timeout, Grip: hold.Grip,
	}).settings(ctx, app)
	if err != nil {
		return err
	}
	site, err := app.node.Backend(rt.live.Key, s)
	if err != nil {
		return err
	}
	rt.site, rt.settings.Applied = site, func() { _ = site.Update(s) } // the node has checked s
	rt.settings.BackendGroup = webhttp.IsGroup
	return nil
}
