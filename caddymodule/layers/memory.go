package layers

import (
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

func init() {
	caddy.RegisterModule(MemoryLayer{})
}

// MemoryLayer is the channel layer inside this process: events come from the admin API and the demo only.
type MemoryLayer struct {
	Resync
}

// CaddyModule returns the Caddy module information.
func (MemoryLayer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.channel_layers.memory", New: func() caddy.Module { return new(MemoryLayer) }}
}

// Place implements [guest.ChannelLayer].
func (MemoryLayer) Place() string { return "memory" }

// Open implements [guest.ChannelLayer].
func (MemoryLayer) Open(*slog.Logger) (relay.Broker, error) { return memory.NewLayer().Broker(), nil }

// Apply implements [guest.ChannelLayer].
func (MemoryLayer) Apply(relay.Broker) error { return nil }

// Provision checks the setting.
func (l *MemoryLayer) Provision(caddy.Context) error { return l.validate() }

// UnmarshalCaddyfile reads `channel_layer memory { … }`.
func (l *MemoryLayer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Err("channel_layer memory has no setting but resync")
	}
	return settings.Read(d, "channel_layer memory", l)
}

var (
	_ guest.ChannelLayer    = (*MemoryLayer)(nil)
	_ caddy.Provisioner     = (*MemoryLayer)(nil)
	_ caddyfile.Unmarshaler = (*MemoryLayer)(nil)
)
