package caddymodule

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/caddymodule/uwsgi"
	"github.com/edgerelay/edgerelay/internal/oneline"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// RouteBackend is a site that answers the clients' messages as HTTP requests, by WebSocket-over-HTTP and GRIP.
type RouteBackend struct {
	// URL is the address of the site: http://host:port, https://…, or uWSGI's socket, such as uwsgi://127.0.0.1:8050 or
	// uwsgi+unix:///run/site/uwsgi.sock. Requests go to the path and query of the WebSocket, behind a path of the URL.
	URL string `json:"url,omitempty"`
	// Concurrency bounds the concurrent requests of the route. It should not be above the number of the site's workers.
	// Default: 32.
	Concurrency int `json:"concurrency,omitempty" caddyfile:"<requests>" min:"1"`
	// Queue bounds the connections that wait for a request. Beyond it, handshakes get 503, and connections are closed
	// with 1013. At most 1000000. Default: 4096.
	Queue int `json:"queue,omitempty" caddyfile:"<connections>" min:"1" max:"1000000"`
	// Timeout bounds a request, and the wait for it. A connection whose request takes longer is closed with 1013.
	// Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// MessageSize is the greatest length of a client's message. Default: frame_size of the limits.
	MessageSize int `json:"message_size,omitempty" caddyfile:"<size>" min:"1"`
	// Grip signs the requests. Without it, requests have no header Grip-Sig.
	Grip *RouteGrip `json:"grip,omitempty" caddyfile:"{ … }"`
	// Headers are the handshake's headers that each request carries. Default: all, except those that belong to the
	// client's own connection or to the protocol.
	Headers []string `json:"headers,omitempty" caddyfile:"<name>..."`
	// Channels are the GRIP channels, with * for any characters, that are also the group of Django Channels with the
	// same name: a site subscribes a WebSocket to the group that its emitters use. Default: none.
	Channels []string `json:"channels,omitempty" caddyfile:"<pattern>..."`

	to *webhttp.Backend
}

// RouteGrip is the key with which requests are signed.
type RouteGrip struct {
	// Key is the secret that the site shares, as plain text or as base64 behind "base64:". Placeholders are replaced,
	// such as {env.GRIP_KEY}.
	Key string `json:"key,omitempty" caddyfile:"<secret>"`
	// Issuer is the claim iss. Default: edgerelay.
	Issuer string `json:"issuer,omitempty" caddyfile:"<text>"`
	// Audience is the claim aud. Default: none.
	Audience string `json:"audience,omitempty" caddyfile:"<text>"`
}

// read reads the URL and the block of messages backend.
func (b *RouteBackend) read(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 1 {
		return d.Err("messages backend takes the address of the site, such as: messages backend http://127.0.0.1:8000")
	}
	b.URL = args[0]
	return settings.Read(d, "messages backend", b)
}

// backend returns the backend of the route's messages, nil if there is none.
func (rt *Route) backend() *RouteBackend {
	if rt.Messages == nil || rt.Messages.Action != "backend" {
		return nil
	}
	if rt.Messages.Backend == nil {
		rt.Messages.Backend = &RouteBackend{}
	}
	return rt.Messages.Backend
}

// provision checks the settings and finds the backend of the route.
func (b *RouteBackend) provision(ctx caddy.Context, app *App, rt *Route) error {
	s, err := b.settings(ctx, app)
	if err != nil {
		return err
	}
	b.to, err = app.node.Backend(rt.live.Key, s)
	if err != nil {
		return err
	}
	if b.MessageSize > 0 {
		rt.settings.MessageSize = b.MessageSize
	}
	to := b.to
	rt.live.Route.Delegate(webhttp.ItemType, to.Format())
	rt.settings.BackendGroup = func(group string) bool {
		return webhttp.IsGroup(group) || s.MapChannel != nil && s.MapChannel(group)
	}
	rt.settings.Applied = func() { _ = to.Update(s) } // the node has checked s
	return nil
}

// settings returns the settings for the protocol.
func (b *RouteBackend) settings(ctx caddy.Context, app *App) (s webhttp.Settings, err error) {
	s = webhttp.Settings{
		Concurrency: b.Concurrency, Queue: b.Queue, Timeout: time.Duration(b.Timeout), Headers: b.Headers,
		Grant: app.node.Hub.Grant, Log: app.node.Log,
	}
	address, err := placeholders.Replace(b.URL)
	if err != nil {
		return s, fmt.Errorf("url: %w", err)
	}
	network, socket, is, err := uwsgi.ParseAddress(address)
	if err != nil {
		return s, err
	}
	if is {
		address = "http://localhost" // the header Host is the client's
		if s.Transport, err = uwsgi.NewDirect(ctx, network, socket); err != nil {
			return s, err
		}
	}
	if s.URL, err = url.Parse(address); err != nil {
		return s, errors.New("invalid url; use an address such as http://127.0.0.1:8000")
	}
	if err := settings.CheckURLPort(address); err != nil {
		return s, fmt.Errorf("url: %w", err)
	}
	if err := settings.CheckNames("headers", b.Headers...); err != nil {
		return s, err
	}
	if g := b.Grip; g != nil {
		secret, err := placeholders.Replace(g.Key)
		if err != nil {
			return s, fmt.Errorf("grip: key: %w", err)
		}
		if s.Key, err = webhttp.ParseKey(secret); err != nil || len(s.Key) == 0 {
			return s, oneline.Join(errors.New("grip: key is missing or invalid; use a secret that the site shares"), err)
		}
		replaced := placeholders.New()
		s.Issuer, s.Audience = replaced.In("grip: issuer", g.Issuer), replaced.In("grip: audience", g.Audience)
		if err := replaced.Err(); err != nil {
			return s, err
		}
	}
	s.MapChannel, err = channelMap(b.Channels)
	return s, err
}

// channelMap returns the function that reports whether a channel is also a group of Django Channels.
func channelMap(patterns []string) (func(string) bool, error) {
	for _, p := range patterns {
		if err := relay.CheckGroup(strings.ReplaceAll(p, "*", "x")); err != nil {
			return nil, fmt.Errorf("channels: %w", err)
		}
	}
	if len(patterns) == 0 {
		return nil, nil
	}
	return func(channel string) bool {
		if !relay.ValidGroup(channel) { // has neither a slash nor a character with a meaning in patterns
			return false
		}
		for _, p := range patterns {
			if ok, err := path.Match(p, channel); ok && err == nil {
				return true
			}
		}
		return false
	}, nil
}
