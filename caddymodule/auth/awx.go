package auth

import (
	"errors"
	"fmt"
	"strconv"
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

// AuthAWX asks AWX's HTTP API who the user is and what the user may see, with the headers Cookie, Authorization and
// X-DAB-JW-TOKEN of the handshake.
type AuthAWX struct {
	// URL is where AWX's HTTP API answers: the socket of its uWSGI, as uwsgi://127.0.0.1:8050 or
	// uwsgi+unix:///run/awx/uwsgi.sock, or an HTTP server, as http://127.0.0.1:8054.
	URL string `json:"url,omitempty"`
	// Lax checks only the three kinds of group that AWX itself checks. Default: all kinds that belong to an object or a
	// user.
	Lax bool `json:"lax,omitempty"`
	// Cache is how long an answer is good for. Default: 5s.
	Cache caddy.Duration `json:"cache,omitempty"`
	// OtherGroups says whether users may see groups of kinds that AWX does not have, with `strict on`: "allow"
	// (default), as AWX does, or "deny". AWX sends nothing to such groups; a Channels site that does should deny them,
	// or let a plugin decide.
	OtherGroups string `json:"other_groups,omitempty"`
	// Recheck is how often it is checked whether connected users are still logged in, and may see the objects that they
	// are subscribed to. Default: 60s; -1s: never.
	Recheck caddy.Duration `json:"recheck,omitempty"`
	// RecheckGrace is how long a websocket stays open while the API gives no answer, from its last answer on; then it
	// is closed with 1013, and the client tries again. 0 closes it at the first recheck without an answer; -1s: never.
	// Not below recheck, unless it is 0. Default: 5m, or twice recheck if that is longer.
	RecheckGrace *caddy.Duration `json:"recheck_grace,omitempty"`
	// GatewayTokenGrace is how long a login by the token of AAP's platform gateway outlives the token, which AWX
	// refuses from then on; then the websocket is closed with 1012, and the client comes back with a new token.
	// Default: 15m; -1s: not at all.
	GatewayTokenGrace caddy.Duration `json:"gateway_token_grace,omitempty"`
	// Timeout bounds one request. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// Concurrency is how many requests may be under way at once. Handshakes of known logins, those of strangers,
	// subscriptions and rechecks have shares of it, so that none of them can use it up. Default: 32.
	Concurrency int `json:"concurrency,omitempty"`
	// SessionCookie is the cookie that names a login. Default: awx_sessionid.
	SessionCookie string `json:"session_cookie,omitempty"`

	authorizer   *awx.Authorizer
	every, grace time.Duration
}

// CaddyModule returns the Caddy module information.
func (AuthAWX) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.awx", New: func() caddy.Module { return new(AuthAWX) }}
}

// Provision checks the settings.
func (a *AuthAWX) Provision(ctx caddy.Context) (err error) {
	s := awx.DefaultSettings()
	s.URL, err = caddy.NewReplacer().ReplaceOrErr(a.URL, true, true)
	if err != nil {
		return fmt.Errorf("auth awx: url: %w", err)
	}
	if err := throughUWSGI(ctx, &s); err != nil {
		return fmt.Errorf("auth awx: url: %w", err)
	}
	if a.Cache < 0 || a.Timeout < 0 || a.Concurrency < 0 {
		return errors.New("auth awx: cache, timeout and concurrency must be above 0")
	}
	if a.OtherGroups != "" && a.OtherGroups != "allow" && a.OtherGroups != "deny" {
		return fmt.Errorf("auth awx: other_groups is allow or deny, not %q", a.OtherGroups)
	}
	if a.OtherGroups == "deny" && a.Lax {
		return errors.New("auth awx: other_groups deny needs strict on")
	}
	if err := a.provisionRecheck(); err != nil {
		return err
	}
	s.Strict, s.DenyOthers = !a.Lax, a.OtherGroups == "deny"
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

// throughUWSGI lets questions go to uWSGI's own socket if that is where the URL leads.
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

// defaultGrace is how long websockets stay open while the API gives no answer, unless recheck is longer.
const defaultGrace = 5 * time.Minute

// provisionRecheck works out how often clients are checked again, and how long they stay without an answer.
func (a *AuthAWX) provisionRecheck() error {
	a.every = time.Minute
	if a.Recheck != 0 {
		a.every = max(time.Duration(a.Recheck), 0)
	}
	switch {
	case a.RecheckGrace == nil:
		a.grace = max(defaultGrace, 2*a.every)
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
func (a *AuthAWX) Grace() time.Duration { return a.grace }

// Cleanup gives up connections to the API.
func (a *AuthAWX) Cleanup() error {
	if a.authorizer != nil {
		a.authorizer.Close()
	}
	return nil
}

// Authorizer implements [Auth].
func (a *AuthAWX) Authorizer() (relay.Authorizer, time.Duration, error) {
	return a.authorizer, a.every, nil
}

// UnmarshalCaddyfile reads
//
//	auth awx <url> {
//		strict              on|off
//		other_groups        allow|deny
//		cache               <duration>
//		recheck             <duration>|off
//		recheck_grace       <duration>|0|off
//		gateway_token_grace <duration>|off
//		timeout             <duration>
//		concurrency         <requests>
//		session_cookie      <name>
//	}
func (a *AuthAWX) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&a.URL) {
		return d.Err("auth awx needs the address of AWX's HTTP API, such as uwsgi://127.0.0.1:8050 or http://127.0.0.1:8054")
	}
	if d.NextArg() {
		return d.Err("auth awx takes one address")
	}
	for d.NextBlock(0) {
		name := d.Val()
		var value string
		if !d.AllArgs(&value) {
			return d.Errf("%s takes one value", name)
		}
		var err error
		switch name {
		case "strict":
			if value != "on" && value != "off" {
				return d.Errf("strict is on or off, not %q", value)
			}
			a.Lax = value == "off"
		case "cache":
			a.Cache, err = settings.PositiveDuration(value)
		case "other_groups":
			if value != "allow" && value != "deny" {
				return d.Errf("other_groups is allow or deny, not %q", value)
			}
			a.OtherGroups = value
		case "recheck":
			a.Recheck, err = positiveOrOff(value)
		case "recheck_grace":
			var grace caddy.Duration
			if value != "0" {
				grace, err = positiveOrOff(value)
			}
			a.RecheckGrace = &grace
		case "gateway_token_grace":
			a.GatewayTokenGrace, err = positiveOrOff(value)
		case "timeout":
			a.Timeout, err = settings.PositiveDuration(value)
		case "concurrency":
			if a.Concurrency, err = strconv.Atoi(value); err != nil || a.Concurrency <= 0 {
				return d.Errf("concurrency is a number above 0, not %q", value)
			}
		case "session_cookie":
			a.SessionCookie = value
		default:
			return d.Errf("auth awx has no setting %q; it has strict, other_groups, cache, recheck, recheck_grace, gateway_token_grace, timeout, concurrency and session_cookie", name)
		}
		if err != nil {
			return d.Errf("%s: %v", name, err)
		}
	}
	return nil
}

// positiveOrOff reads a duration, or off, which is a negative one.
func positiveOrOff(s string) (caddy.Duration, error) {
	if s == "off" {
		return caddy.Duration(-time.Second), nil
	}
	return settings.PositiveDuration(s)
}
