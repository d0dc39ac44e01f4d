package caddymodule

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

// discoveryNamespace is the namespace of the guest modules that find peers. Their names are directives of backplane.
const discoveryNamespace = "edgerelay.discovery"

// unmarshal reads
//
//	backplane {
//		secret         <secret> [<previous>]
//		peers          <url>...
//		dns            <name>[:<port>] { … }
//		redis          <url> { … }
//		postgres       <dsn> { … }
//		dialect        auto|broadcast|relay|edgerelay
//		emitters       awx|any
//		node_name      <name>
//		advertise      <url>
//		tls_ca         <file>...
//		tls_server_name <name>
//		tls_insecure_skip_verify
//		retry          <duration>
//		ping           <duration>
//		silence        <duration>
//		subscribe_wait <duration>
//		queue_per_peer <size>
//		frame_size     <size>
//	}
func (b *Backplane) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := b.unmarshalSetting(d); err != nil {
			return err
		}
	}
	return nil
}

// unmarshalSetting reads one setting or discovery.
func (b *Backplane) unmarshalSetting(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "secret":
		args := d.RemainingArgs()
		if len(args) < 1 || len(args) > 2 {
			return d.Err("secret takes the secret and, while it is being replaced, the previous one")
		}
		b.Secret = args[0]
		if len(args) == 2 {
			b.SecretPrevious = args[1]
		}
	case "tls_ca":
		files := d.RemainingArgs()
		if len(files) == 0 {
			return d.Err("tls_ca needs at least one file")
		}
		b.TLSCA = append(b.TLSCA, files...)
	case "tls_insecure_skip_verify":
		if d.NextArg() {
			return d.ArgErr()
		}
		b.TLSInsecureSkipVerify = true
	default:
		if known, err := b.unmarshalValue(d); known {
			return err
		}
		return b.unmarshalDiscovery(d)
	}
	return nil
}

// unmarshalValue reads a setting that takes one value, and reports whether there is such a setting.
func (b *Backplane) unmarshalValue(d *caddyfile.Dispenser) (known bool, err error) {
	name := d.Val()
	text := map[string]*string{
		"dialect": &b.Dialect, "emitters": &b.Emitters, "node_name": &b.NodeName, "advertise": &b.Advertise,
		"tls_server_name": &b.TLSServerName,
	}[name]
	duration := map[string]*caddy.Duration{
		"retry": &b.Retry, "ping": &b.Ping, "silence": &b.Silence, "subscribe_wait": &b.SubscribeWait,
	}[name]
	size := map[string]*int{"queue_per_peer": &b.QueuePerPeer, "frame_size": &b.FrameSize}[name]
	if text == nil && duration == nil && size == nil {
		return false, nil
	}
	var value string
	if !d.AllArgs(&value) {
		return true, d.Errf("%s takes one value", name)
	}
	switch {
	case text != nil:
		*text = value
	case duration != nil:
		*duration, err = settings.Duration(value)
	default:
		var bytes int64
		bytes, err = settings.Size(value, settings.MaxBuffer)
		*size = int(bytes)
	}
	if err != nil {
		return true, d.Errf("%s: %v", name, err)
	}
	return true, nil
}

// unmarshalDiscovery reads a directive that is the name of a guest module.
func (b *Backplane) unmarshalDiscovery(d *caddyfile.Dispenser) error {
	name := d.Val()
	id := discoveryNamespace + "." + name
	if _, err := caddy.GetModule(id); err != nil {
		return d.Errf("backplane has no setting %q; it has secret, dialect, emitters, node_name, advertise, tls_ca, "+
			"tls_server_name, tls_insecure_skip_verify, retry, ping, silence, subscribe_wait, queue_per_peer, "+
			"frame_size and, to find peers, %s", name, strings.Join(discoveryNames(), ", "))
	}
	module, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return err
	}
	b.DiscoveriesRaw = append(b.DiscoveriesRaw, caddyconfig.JSONModuleObject(module, "kind", name, nil))
	return nil
}

// discoveryNames lists the guest modules in this binary.
func discoveryNames() (names []string) {
	for _, m := range caddy.GetModules(discoveryNamespace) {
		names = append(names, m.ID.Name())
	}
	return names
}
