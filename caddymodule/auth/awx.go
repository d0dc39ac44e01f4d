package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/caddymodule/uwsgi"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// AWX asks AWX's HTTP API who the user is and what the user may see, with the headers Cookie, Authorization and
// X-DAB-JW-TOKEN of the handshake.
type AWX struct {
	// URL is where AWX's HTTP API answers: the socket of its uWSGI, as uwsgi://127.0.0.1:8050 or
	// uwsgi+unix:///run/awx/uwsgi.sock, or an HTTP server, as http://127.0.0.1:8054.
	URL string `json:"url,omitempty"`
	// Strict checks all kinds of groups that belong to an object or a user. Off, it checks only the three kinds that AWX
	// itself checks. Default: true.
	Strict *bool `json:"strict,omitempty" caddyfile:"on|off"`
	// Cache is how long an answer is good for. Default: 5s.
	Cache caddy.Duration `json:"cache,omitempty" caddyfile:"<duration>" min:"1"`
	// OtherGroups says whether users may see groups of kinds that AWX does not have, with `strict on`: "allow"
	// (default), as AWX does, or "deny". AWX sends nothing to such groups; a Channels site that does should deny them,
	// or let a plugin decide.
	OtherGroups string `json:"other_groups,omitempty" caddyfile:"allow|deny"`
	// Recheck is how often it is checked whether connected users are still logged in, and may see the objects that they
	// are subscribed to. Default: 60s; off: never.
	Recheck settings.DurationOrOff `json:"recheck,omitempty" caddyfile:"<duration>|off" min:"1"`
	// RecheckGrace is how long a websocket stays open while the API gives no answer, from its last answer on; then it
	// is closed with 1013, and the client tries again. 0 closes it at the first recheck without an answer; off: never.
	// Not below recheck, unless it is 0. Default: 5m, or twice recheck if that is longer.
	RecheckGrace *settings.DurationOrOff `json:"recheck_grace,omitempty" caddyfile:"<duration>|0|off" min:"1"`
	// GatewayTokenGrace is how long a login by the token of AAP's platform gateway outlives the token, which AWX
	// refuses from then on; then the websocket is closed with 1012, and the client comes back with a new token.
	// Default: 15m; off: not at all.
	GatewayTokenGrace settings.DurationOrOff `json:"gateway_token_grace,omitempty" caddyfile:"<duration>|off" min:"1"`
	// Timeout bounds one request. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// Concurrency is how many requests may be under way at once. Handshakes of known logins, those of strangers,
	// subscriptions and rechecks have shares of it, so that none of them can use it up. Default: 32.
	Concurrency int `json:"concurrency,omitempty" caddyfile:"<requests>" min:"1"`
	// SessionCookie is the cookie that names a login. Default: awx_sessionid.
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
	s := awx.DefaultSettings()
	s.URL, err = caddy.NewReplacer().ReplaceOrErr(a.URL, true, true)
	if err != nil {
		return fmt.Errorf("auth awx: url: %w", err)
	}
	if err := throughUWSGI(ctx, &s); err != nil {
		return fmt.Errorf("auth awx: url: %w", err)
	}
	strict := a.Strict == nil || *a.Strict
	if a.Cache < 0 || a.Timeout < 0 || a.Concurrency < 0 {
		return errors.New("auth awx: cache, timeout and concurrency must be above 0")
	}
	if a.OtherGroups != "" && a.OtherGroups != "allow" && a.OtherGroups != "deny" {
		return fmt.Errorf("auth awx: other_groups is allow or deny, not %q", a.OtherGroups)
	}
	if a.OtherGroups == "deny" && !strict {
		return errors.New("auth awx: other_groups deny needs strict on")
	}
	if err := a.provisionRecheck(); err != nil {
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
	s.WrapTransport = telemetry.NewTracedTransport
	a.authorizer, err = awx.NewAuthorizer(s)
	return err
}

// throughUWSGI sends requests to uWSGI's own socket if that is where the URL leads.
func throughUWSGI(ctx caddy.Context, s *awx.Settings) error {
	network, address, is, err := uwsgi.ParseAddress(s.URL)
	if !is || err != nil {
		return err
	}
	if network == "unix" {
		s.URL = "uwsgi+unix://localhost" // what AWX sees as Host
	}
	s.Transport, err = uwsgi.NewDirect(ctx, network, address)
	return err
}

// defaultRecheckGrace applies unless twice the recheck is longer.
const defaultRecheckGrace = 5 * time.Minute

// provisionRecheck works out how often clients are checked again, and how long they stay without an answer.
func (a *AWX) provisionRecheck() error {
	a.every = time.Minute
	if a.Recheck != 0 {
		a.every = max(time.Duration(a.Recheck), 0)
	}
	switch {
	case a.RecheckGrace == nil:
		a.grace = max(defaultRecheckGrace, 2*a.every)
	case *a.RecheckGrace < 0:
		a.grace = relay.NoGrace
	default:
		if a.grace = time.Duration(*a.RecheckGrace); a.grace > 0 && a.grace < a.every {
			return fmt.Errorf("auth awx: recheck_grace %s is shorter than recheck %s; make it longer, or 0 to close a websocket at the first recheck without an answer", a.grace, a.every)
		}
	}
	return nil
}

// Grace is how long websockets stay open while the API gives no answer; below 0: for ever.
func (a *AWX) Grace() time.Duration { return a.grace }

// Cleanup gives up connections to the API.
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
		return d.Err("auth awx needs the address of AWX's HTTP API, such as uwsgi://127.0.0.1:8050 or http://127.0.0.1:8054")
	}
	if d.NextArg() {
		return d.Err("auth awx takes one address")
	}
	return settings.Read(d, "auth awx", a)
}
