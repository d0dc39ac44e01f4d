package pluginhost

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/plugins"
)

// ReadBlock reads `plugin <name> <file>|<oci://…> { … }`.
func (p *Plugin) ReadBlock(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&p.Name, &p.File) {
		return d.Err("plugin needs a name and a file, as in: plugin redact ./redact.wasm")
	}
	return settings.Read(d, "plugin", p)
}

// ReadSetting implements [settings.Reader] for grant, with an optional interval after tick, and for shadow, with a
// plugin's name as an optional argument.
func (p *Plugin) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	switch d.Val() {
	case "grant":
		return true, p.readGrants(d)
	case "shadow":
		return true, p.readShadow(d)
	}
	return false, nil
}

// readGrants reads `grant <capability>...`.
func (p *Plugin) readGrants(d *caddyfile.Dispenser) error {
	names := make([]string, len(plugins.Grants))
	for i, g := range plugins.Grants {
		names[i] = string(g)
	}
	last := len(names) - 1
	choice := strings.Join(names[:last], ", ") + " or " + names[last]
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("plugin: grant takes at least one value: %s", choice)
	}
	for i, grant := range args {
		if i > 0 && args[i-1] == string(plugins.GrantTick) && !slices.Contains(names, grant) {
			interval, err := caddy.ParseDuration(grant)
			if err != nil {
				return d.Errf("plugin: grant tick: invalid interval %q; use a duration such as 1s", grant)
			}
			p.Tick = caddy.Duration(interval)
			continue
		}
		if !slices.Contains(names, grant) {
			return d.Errf("plugin: grant: invalid value %q; %s", grant, settings.Remedy(grant, names, "use "+choice))
		}
		p.Grants = append(p.Grants, grant)
	}
	return nil
}

// readShadow reads `shadow [<plugin>]`.
func (p *Plugin) readShadow(d *caddyfile.Dispenser) error {
	p.Shadow = true
	if d.NextArg() {
		p.ShadowOf = d.Val()
	}
	if d.NextArg() {
		return d.Err("shadow takes one plugin name at most")
	}
	return nil
}
