package auth

import (
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/relay"
)

func init() {
	caddy.RegisterModule(None{})
	caddy.RegisterModule(Caddy{})
	caddy.RegisterModule(AWX{})
	caddy.RegisterModule(HTTP{})
	caddy.RegisterModule(JWT{})
}

// None admits every client as user 1 and allows every group. For development.
type None struct{}

// CaddyModule returns the Caddy module information.
func (None) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.none", New: func() caddy.Module { return new(None) }}
}

// Authorizer implements [guest.Auth].
func (None) Authorizer() (relay.Authorizer, time.Duration, error) { return relay.Open{}, 0, nil }

// OpenToAll implements [guest.OpenAuth].
func (None) OpenToAll() bool { return true }

// UnmarshalCaddyfile reads `auth none`.
func (None) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Err("auth none has no settings")
	}
	return nil
}

var (
	_ guest.Auth            = None{}
	_ guest.Auth            = (*Caddy)(nil)
	_ guest.Auth            = (*AWX)(nil)
	_ guest.Auth            = (*HTTP)(nil)
	_ guest.Auth            = (*JWT)(nil)
	_ caddyfile.Unmarshaler = None{}
	_ caddyfile.Unmarshaler = (*Caddy)(nil)
	_ caddyfile.Unmarshaler = (*AWX)(nil)
	_ caddyfile.Unmarshaler = (*HTTP)(nil)
	_ caddyfile.Unmarshaler = (*JWT)(nil)
	_ caddy.Provisioner     = (*AWX)(nil)
	_ caddy.Provisioner     = (*HTTP)(nil)
	_ caddy.Provisioner     = (*JWT)(nil)
	_ caddy.Provisioner     = (*Caddy)(nil)
	_ caddy.CleanerUpper    = (*AWX)(nil)
	_ caddy.CleanerUpper    = (*HTTP)(nil)
	_ caddy.CleanerUpper    = (*JWT)(nil)
)
