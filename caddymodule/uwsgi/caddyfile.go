package uwsgi

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

// UnmarshalCaddyfile reads `transport uwsgi { … }`.
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the transport's name
	if d.NextArg() {
		return d.ArgErr()
	}
	return settings.Read(d, "transport uwsgi", t)
}

// ReadSetting implements [settings.Reader]: it reads the setting env.
func (t *Transport) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	if d.Val() != "env" {
		return false, nil
	}
	args := d.RemainingArgs()
	if len(args) != 2 {
		return true, d.Err("env takes a name and a value")
	}
	if t.Env == nil {
		t.Env = map[string]string{}
	}
	t.Env[args[0]] = args[1]
	return true, nil
}

// Interface guards.
var (
	_ caddyfile.Unmarshaler = (*Transport)(nil)
	_ settings.Reader       = (*Transport)(nil)
)
