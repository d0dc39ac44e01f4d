package caddymodule

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

// discoveryNamespace is the namespace of the guest modules that find peers. Their names are directives of backplane.
const discoveryNamespace = "edgerelay.discovery"

// ReadSetting implements [settings.Reader]. It reads the secret and the discoveries.
func (b *Backplane) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	name := d.Val()
	if name == "secret" {
		args := d.RemainingArgs()
		if len(args) < 1 || len(args) > 2 {
			return true, d.Err("secret needs the secret and, during a replacement, the previous secret")
		}
		b.Secret = args[0]
		if len(args) == 2 {
			b.SecretPrevious = args[1]
		}
		return true, nil
	}
	if slices.Contains(settings.Names(b), name) {
		return false, nil
	}
	return true, b.unmarshalDiscovery(d)
}

// unmarshalDiscovery reads a directive whose name is that of a guest module.
func (b *Backplane) unmarshalDiscovery(d *caddyfile.Dispenser) error {
	name := d.Val()
	id := discoveryNamespace + "." + name
	if _, err := caddy.GetModule(id); err != nil {
		known := settings.Names(b)
		return d.Errf("backplane has no setting %q; %s", name,
			settings.Remedy(name, slices.Concat(known, guestNames(discoveryNamespace)), "it has "+
				strings.Join(known, ", ")+" and, to find peers, "+strings.Join(guestNames(discoveryNamespace), ", ")))
	}
	module, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return err
	}
	b.DiscoveriesRaw = append(b.DiscoveriesRaw, caddyconfig.JSONModuleObject(module, "kind", name, nil))
	return nil
}

// guestNames lists the guest modules of a namespace in this binary.
func guestNames(namespace string) (names []string) {
	for _, m := range caddy.GetModules(namespace) {
		names = append(names, m.ID.Name())
	}
	return names
}
