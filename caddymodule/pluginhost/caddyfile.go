package pluginhost

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

// ReadBlock reads `plugin <name> <file> { … }`.
func (p *Plugin) ReadBlock(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&p.Name, &p.File) {
		return d.Err("plugin needs a name and a file, as in: plugin redact ./redact.wasm")
	}
	return settings.Read(d, "plugin", p)
}

// ReadSetting implements [settings.Reader] for shadow, with a plugin's name as an optional argument.
func (p *Plugin) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	if d.Val() != "shadow" {
		return false, nil
	}
	p.Shadow = true
	if d.NextArg() {
		p.ShadowOf = d.Val()
	}
	if d.NextArg() {
		return true, d.Err("shadow takes one plugin name at most")
	}
	return true, nil
}
