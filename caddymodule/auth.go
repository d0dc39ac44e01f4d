package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/awx"
)

func init() {
	caddy.RegisterModule(AuthNone{})
	caddy.RegisterModule(AuthCaddy{})
	caddy.RegisterModule(AuthAWX{})
}

// AuthNone lets everybody see everything, as user 1. For development.
type AuthNone struct{}

// CaddyModule returns the Caddy module information.
func (AuthNone) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.none", New: func() caddy.Module { return new(AuthNone) }}
}

// Authorizer implements [Auth].
func (AuthNone) Authorizer() (relay.Authorizer, time.Duration, error) { return relay.Open{}, 0, nil }

// UnmarshalCaddyfile reads `auth none`.
func (AuthNone) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Err("auth none has no settings")
	}
	return nil
}

// AuthCaddy takes the user from Caddy's own authentication, {http.auth.user.id}, as basic_auth or forward_auth set it. Every
// authenticated user may see every group.
type AuthCaddy struct{}

// CaddyModule returns the Caddy module information.
func (AuthCaddy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.caddy", New: func() caddy.Module { return new(AuthCaddy) }}
}

// Authorizer implements [Auth].
func (AuthCaddy) Authorizer() (relay.Authorizer, time.Duration, error) {
	return caddyAuthorizer{}, 0, nil
}

// UnmarshalCaddyfile reads `auth caddy`.
func (AuthCaddy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Err("auth caddy has no settings")
	}
	return nil
}

type caddyAuthorizer struct{}

func (caddyAuthorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return relay.Identity{}, errors.New("the request does not come through Caddy")
	}
	user, _ := repl.GetString("http.auth.user.id")
	if user == "" {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	id := relay.Identity{Key: user, Name: user, ID: string(pyjson.AppendString(nil, user)), Credentials: throughCaddy{}}
	if n, err := strconv.ParseInt(user, 10, 64); err == nil && strconv.FormatInt(n, 10) == user {
		id.ID = user
	}
	return id, nil
}

func (caddyAuthorizer) Authorize(_ context.Context, id relay.Identity, kind, item string) error {
	if _, ok := id.Credentials.(throughCaddy); !ok || kind == "control" && item != "limit_reached_"+id.Key {
		return relay.ErrDenied
	}
	return nil
}

// throughCaddy marks who has been let in by a caddyAuthorizer.
type throughCaddy struct{}

func (caddyAuthorizer) Recheck(_ context.Context, id relay.Identity) error {
	if _, ok := id.Credentials.(throughCaddy); !ok { // let in by another authorizer, before a change of configuration
		return relay.ErrUnauthenticated
	}
	return nil
}

// AuthAWX asks AWX's HTTP API who the user is and what the user may see, with the Cookie and Authorization headers of the handshake.
type AuthAWX struct {
	// URL is where AWX's HTTP API answers, such as http://127.0.0.1:8054.
	URL string `json:"url,omitempty"`
	// Lax checks only the three kinds of group that AWX itself checks. Default: all kinds that belong to an object or a user.
	Lax bool `json:"lax,omitempty"`
	// Cache is how long an answer is good for. Default: 5s.
	Cache caddy.Duration `json:"cache,omitempty"`
	// Recheck is how often it is checked whether connected users are still logged in. Default: 60s; -1s: never.
	Recheck caddy.Duration `json:"recheck,omitempty"`
	// Timeout bounds one request. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// Concurrency is how many requests may be under way at once. Default: 32.
	Concurrency int `json:"concurrency,omitempty"`
	// SessionCookie is the cookie that names a login. Default: awx_sessionid.
	SessionCookie string `json:"session_cookie,omitempty"`

	authorizer *awx.Authorizer
}

// CaddyModule returns the Caddy module information.
func (AuthAWX) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.awx", New: func() caddy.Module { return new(AuthAWX) }}
}

// Provision checks the settings.
func (a *AuthAWX) Provision(caddy.Context) (err error) {
	s := awx.DefaultSettings()
	s.URL, err = caddy.NewReplacer().ReplaceOrErr(a.URL, true, true)
	if err != nil {
		return fmt.Errorf("auth awx: url: %w", err)
	}
	if a.Cache < 0 || a.Timeout < 0 || a.Concurrency < 0 {
		return errors.New("auth awx: cache, timeout and concurrency must be above 0")
	}
	s.Strict = !a.Lax
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
	s.Wrap = newTracedTransport
	a.authorizer, err = awx.NewAuthorizer(s)
	return err
}

// Cleanup gives up connections to the API.
func (a *AuthAWX) Cleanup() error {
	if a.authorizer != nil {
		a.authorizer.Close()
	}
	return nil
}

// Authorizer implements [Auth].
func (a *AuthAWX) Authorizer() (relay.Authorizer, time.Duration, error) {
	recheck := time.Minute
	if a.Recheck != 0 {
		recheck = max(time.Duration(a.Recheck), 0)
	}
	return a.authorizer, recheck, nil
}

// UnmarshalCaddyfile reads
//
//	auth awx <url> {
//		strict         on|off
//		cache          <duration>
//		recheck        <duration>|off
//		timeout        <duration>
//		concurrency    <requests>
//		session_cookie <name>
//	}
func (a *AuthAWX) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&a.URL) {
		return d.Err("auth awx needs the address of AWX's HTTP API, such as http://127.0.0.1:8054")
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
			a.Cache, err = positive(value)
		case "recheck":
			if value == "off" {
				a.Recheck = caddy.Duration(-time.Second)
			} else {
				a.Recheck, err = positive(value)
			}
		case "timeout":
			a.Timeout, err = positive(value)
		case "concurrency":
			if a.Concurrency, err = strconv.Atoi(value); err != nil || a.Concurrency <= 0 {
				return d.Errf("concurrency is a number above 0, not %q", value)
			}
		case "session_cookie":
			a.SessionCookie = value
		default:
			return d.Errf("auth awx has no setting %q; it has strict, cache, recheck, timeout, concurrency and session_cookie", name)
		}
		if err != nil {
			return d.Errf("%s: %v", name, err)
		}
	}
	return nil
}

var (
	_ Auth               = AuthNone{}
	_ Auth               = AuthCaddy{}
	_ Auth               = (*AuthAWX)(nil)
	_ caddy.Provisioner  = (*AuthAWX)(nil)
	_ caddy.CleanerUpper = (*AuthAWX)(nil)
)
