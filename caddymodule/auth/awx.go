package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// AWX authenticates and authorizes clients through AWX's HTTP API, with the handshake's headers Cookie, Authorization
// and X-DAB-JW-TOKEN.
type AWX struct {
	// URL is the address of AWX's HTTP API: uWSGI's socket, such as uwsgi://127.0.0.1:8050 or
	// uwsgi+unix:///run/awx/uwsgi.sock, or an HTTP server, such as http://127.0.0.1:8054.
	URL string `json:"url,omitempty"`
	// Strict checks all kinds of groups that belong to an object or a user. If false, the relay
	// checks only the three kinds that AWX checks. Default: true.
	Strict *bool `json:"strict,omitempty" caddyfile:"on|off"`
	// Cache is how long answers are cached. Default: 5s.
	Cache caddy.Duration `json:"cache,omitempty" caddyfile:"<duration>" min:"1"`
	// OtherGroups decides about groups of kinds that AWX does not have, with `strict on`. "allow" (default) lets every
	// user subscribe, as AWX does. "deny" lets no user subscribe. AWX sends nothing to such groups. A Channels site
	// that sends events there should use "deny", or let a plugin decide.
	OtherGroups string `json:"other_groups,omitempty" caddyfile:"allow|deny"`
	// Recheck is the time between rechecks of the logins of connected users, and of their access to the objects of
	// their subscriptions. Default: 60s; off: never.
	Recheck settings.DurationOrOff `json:"recheck,omitempty" caddyfile:"<duration>|off" min:"1"`
	// RecheckGrace is how long a websocket stays open after the last answer of an API that no longer answers. After
	// that, the websocket is closed with 1013, and the client retries. 0 closes the websocket at the first recheck
	// without an answer; off: never. A value above 0 must not be below recheck. Default: 5m, or twice recheck if that
	// is longer.
	RecheckGrace *settings.DurationOrOff `json:"recheck_grace,omitempty" caddyfile:"<duration>|0|off" min:"1"`
	// GatewayTokenGrace is how long a login by a token of AAP's platform gateway outlives the token. AWX rejects an
	// expired token. After the grace time, the websocket is closed with 1012, and the client reconnects with a new
	// token. Default: 15m; off: not at all.
	GatewayTokenGrace settings.DurationOrOff `json:"gateway_token_grace,omitempty" caddyfile:"<duration>|off" min:"1"`
	// Timeout bounds a request to the API. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// Concurrency bounds the concurrent requests to the API. Handshakes of known logins, handshakes of unknown logins,
	// subscriptions and rechecks have a share each, so that no kind of request can use up all of them. Default: 32.
	Concurrency int `json:"concurrency,omitempty" caddyfile:"<requests>" min:"1"`
	// SessionCookie is the name of the cookie that identifies a login. Default: awx_sessionid.
	SessionCookie string `json:"session_cookie,omitempty" caddyfile:"<name>"`

	authorizer   *awx.Authorizer
	every, grace time.Duration
}

// CaddyModule returns the Caddy module information.
func (AWX) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.awx", New: func() caddy.Module { return new(AWX) }}
}

// Provision checks the settings.
func (a *AWX) Provision(ctx caddy.Context) (err error) {
	if err := settings.Check("auth awx", a); err != nil {
		return err
	}
	s := awx.DefaultSettings()
	s.URL, err = placeholders.Replace(a.URL)
	if err != nil {
		return fmt.Errorf("auth awx: url: %w", err)
	}
	if s.URL, s.Transport, err = throughUWSGI(ctx, s.URL); err != nil {
		return fmt.Errorf("auth awx: url: %w", err)
	}
	if err := settings.CheckURLPort(s.URL); err != nil {
		return fmt.Errorf("auth awx: url: %w", err)
	}
	strict := a.Strict == nil || *a.Strict
	if a.OtherGroups != "" && a.OtherGroups != "allow" && a.OtherGroups != "deny" {
		return fmt.Errorf("auth awx: invalid other_groups %q; use allow or deny", a.OtherGroups)
	}
	if a.OtherGroups == "deny" && !strict {
		return errors.New("auth awx: other_groups deny needs strict on")
	}
	if a.every, a.grace, err = recheckTimes("auth awx", a.Recheck, a.RecheckGrace); err != nil {
		return err
	}
	s.Strict, s.DenyOthers = strict, a.OtherGroups == "deny"
	s.ClientAddress = request.ClientAddress
	if a.GatewayTokenGrace != 0 {
		s.TokenGrace = max(time.Duration(a.GatewayTokenGrace), 0)
	}
	if a.Cache > 0 {
		s.Cache = time.Duration(a.Cache)
	}
	if a.Timeout > 0 {
		s.Timeout = time.Duration(a.Timeout)
	}
	if a.Concurrency > 0 {
		s.Concurrency = a.Concurrency
	}
	if a.SessionCookie != "" {
		s.SessionCookie = a.SessionCookie
	}
	if err := settings.CheckNames("auth awx: session_cookie", s.SessionCookie); err != nil {
		return err
	}
	s.WrapTransport = telemetry.NewTracedTransport
	a.authorizer, err = awx.NewAuthorizer(s)
	return err
}

// Grace implements [guest.RecheckGracer].
func (a *AWX) Grace() time.Duration { return a.grace }

// Cleanup closes the connections to the API.
func (a *AWX) Cleanup() error {
	if a.authorizer != nil {
		a.authorizer.Close()
	}
	return nil
}

// Authorizer implements [guest.Auth].
func (a *AWX) Authorizer() (relay.Authorizer, time.Duration, error) {
	return a.authorizer, a.every, nil
}

// UnmarshalCaddyfile reads `auth awx <url> { … }`.
func (a *AWX) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&a.URL) {
		return d.Err("auth awx needs the address of AWX's HTTP API, " +
			"such as uwsgi://127.0.0.1:8050 or http://127.0.0.1:8054")
	}
	if d.NextArg() {
		return d.Err("auth awx takes one address")
	}
	return settings.Read(d, "auth awx", a)
}
