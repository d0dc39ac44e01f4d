package auth

import (
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/relay"
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

// OpenToAll implements [Opener].
func (AuthNone) OpenToAll() bool { return true }

// UnmarshalCaddyfile reads `auth none`.
func (AuthNone) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Err("auth none has no settings")
	}
	return nil
}

var (
	_ guest.Auth            = AuthNone{}
	_ guest.Auth            = AuthCaddy{}
	_ guest.Auth            = (*AuthAWX)(nil)
	_ caddyfile.Unmarshaler = AuthNone{}
	_ caddyfile.Unmarshaler = (*AuthCaddy)(nil)
	_ caddyfile.Unmarshaler = (*AuthAWX)(nil)
	_ caddy.Provisioner     = (*AuthAWX)(nil)
	_ caddy.CleanerUpper    = (*AuthAWX)(nil)
)
