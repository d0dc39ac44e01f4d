package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/site"
)

// HTTP asks an endpoint of the site who a client is and which groups it may see, with the Cookie and Authorization of
// the client's handshake: when the client connects, when it subscribes, and at rechecks.
type HTTP struct {
	// URL is the address of the endpoint: an HTTP server, such as http://127.0.0.1:8000/edgerelay/auth/, or uWSGI's
	// socket, such as uwsgi://127.0.0.1:8050/edgerelay/auth/.
	URL string `json:"url,omitempty"`
	// Path is the path and query of a request to uWSGI's socket, if URL is an address without them, such as
	// uwsgi+unix:///run/app.sock. Default: /.
	Path string `json:"path,omitempty"`
	// Method is `get`, with the group that is asked for as the parameter `group`, or `post`, with JSON. Default: get.
	Method string `json:"method,omitempty" caddyfile:"get|post"`
	// Headers are further headers of the handshake that are sent along. Default: none.
	Headers []string `json:"headers,omitempty" caddyfile:"<name>..."`
	// URI sends the path and query of the handshake along, as X-Forwarded-Uri. Clients of different paths then share no
	// answer. Default: false.
	URI bool `json:"uri,omitempty" caddyfile:"on|off"`
	// Key is a secret that is sent as X-Edgerelay-Key, so that the endpoint can refuse other callers. Write a placeholder
	// such as {env.EDGERELAY_AUTH_KEY}. Default: none.
	Key string `json:"key,omitempty" caddyfile:"<secret>" min:"1"`
	// Cache is how long answers are cached. Default: 5s.
	Cache caddy.Duration `json:"cache,omitempty" caddyfile:"<duration>" min:"1"`
	// Recheck is the time between rechecks of the logins of connected users, and of the groups that they are subscribed
	// to. Default: 60s; off: never, apart from the end of an answer's lifetime.
	Recheck settings.DurationOrOff `json:"recheck,omitempty" caddyfile:"<duration>|off" min:"1"`
	// RecheckGrace is how long a websocket stays open after the last answer of an endpoint that no longer answers. After
	// that, the websocket is closed with 1013, and the client retries. 0 closes the websocket at the first recheck without
	// an answer; off: never. A value above 0 must not be below recheck. Default: 5m, or twice recheck if that is longer.
	RecheckGrace *settings.DurationOrOff `json:"recheck_grace,omitempty" caddyfile:"<duration>|0|off" min:"1"`
	// Timeout bounds a request. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// Concurrency bounds the concurrent requests. Handshakes of known logins, handshakes of unknown logins, subscriptions
	// and rechecks have a share each, so that no kind of request can use up all of them. Default: 32.
	Concurrency int `json:"concurrency,omitempty" caddyfile:"<requests>" min:"1"`
	// SessionCookie is the name of the cookie that identifies a login, so that its tabs share answers. Default: sessionid.
	SessionCookie string `json:"session_cookie,omitempty" caddyfile:"<name>"`

	authorizer   *site.Authorizer
	every, grace time.Duration
}

// CaddyModule returns the Caddy module information.
func (HTTP) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.http", New: func() caddy.Module { return new(HTTP) }}
}

// Provision checks the settings.
func (h *HTTP) Provision(ctx caddy.Context) (err error) {
	if err := settings.Check("auth http", h); err != nil {
		return err
	}
	s := site.DefaultSettings()
	repl := placeholders.New()
	s.URL, s.Key = repl.In("url", h.URL), repl.In("key", h.Key)
	if err := repl.Err(); err != nil {
		return fmt.Errorf("auth http: %w", err)
	}
	socket, path := splitUWSGI(s.URL)
	if s.URL, s.Transport, err = throughUWSGI(ctx, socket); err != nil {
		return fmt.Errorf("auth http: url: %w", err)
	}
	if err := settings.CheckURLPort(s.URL); err != nil {
		return fmt.Errorf("auth http: url: %w", err)
	}
	if h.Path != "" {
		if path != "" || s.Transport == nil || !strings.HasPrefix(h.Path, "/") {
			return errors.New("auth http: the path belongs to uWSGI's socket and begins with /, as in: " +
				"auth http uwsgi+unix:///run/app.sock /edgerelay/auth/")
		}
		path = h.Path
	}
	s.URL += path
	switch h.Method {
	case "", "get":
	case "post":
		s.Post = true
	default:
		return fmt.Errorf("auth http: invalid method %q; use get or post", h.Method)
	}
	if h.every, h.grace, err = recheckTimes("auth http", h.Recheck, h.RecheckGrace); err != nil {
		return err
	}
	s.Headers, s.URI, s.ClientAddress = h.Headers, h.URI, request.ClientAddress
	if h.Cache > 0 {
		s.Cache = time.Duration(h.Cache)
	}
	if h.Timeout > 0 {
		s.Timeout = time.Duration(h.Timeout)
	}
	if h.Concurrency > 0 {
		s.Concurrency = h.Concurrency
	}
	if h.SessionCookie != "" {
		s.SessionCookie = h.SessionCookie
	}
	if err := settings.CheckNames("auth http: headers", s.Headers...); err != nil {
		return err
	}
	if err := settings.CheckNames("auth http: session_cookie", s.SessionCookie); err != nil {
		return err
	}
	s.WrapTransport = telemetry.NewTracedTransport
	h.authorizer, err = site.NewAuthorizer(s)
	return err
}

// Authorizer implements [guest.Auth].
func (h *HTTP) Authorizer() (relay.Authorizer, time.Duration, error) {
	return h.authorizer, h.every, nil
}

// Grace implements [guest.RecheckGracer].
func (h *HTTP) Grace() time.Duration { return h.grace }

// Cleanup closes the connections to the site.
func (h *HTTP) Cleanup() error {
	if h.authorizer != nil {
		h.authorizer.Close()
	}
	return nil
}

// UnmarshalCaddyfile reads `auth http <url> [<path>] { … }`.
func (h *HTTP) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&h.URL) {
		return d.Err("auth http needs the address of the site's endpoint, such as http://127.0.0.1:8000/edgerelay/auth/")
	}
	if d.NextArg() {
		if h.Path = d.Val(); d.NextArg() {
			return d.Err("auth http takes an address, and the path of a request to uWSGI's socket")
		}
	}
	return settings.Read(d, "auth http", h)
}
