package layers

import (
	"fmt"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/internal/oneline"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/pubsub"
)

func init() {
	caddy.RegisterModule(RedisPubSubLayer{})
}

// RedisPubSubLayer is the counterpart of channels_redis's RedisPubSubChannelLayer. The settings have the names and
// defaults of Python's CHANNEL_LAYERS, and must have the same values there. Redis stores no events of this layer: an
// event that is sent while the connection to Redis is broken is lost.
type RedisPubSubLayer struct {
	RedisCommon
	Resync

	settings pubsub.Settings
}

// CaddyModule returns the Caddy module information.
func (RedisPubSubLayer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "edgerelay.channel_layers.redis_pubsub",
		New: func() caddy.Module { return new(RedisPubSubLayer) },
	}
}

// Provision checks the settings.
func (l *RedisPubSubLayer) Provision(caddy.Context) (err error) {
	s := pubsub.DefaultSettings()
	if err = settings.Check("channel_layer redis_pubsub", l); err != nil {
		return err
	}
	if s.Hosts, s.EncryptionKeys, err = l.expand(s.Hosts, &s.Prefix); err != nil {
		return fmt.Errorf("channel_layer redis_pubsub: %w", err)
	}
	if l.Serializer != "" {
		s.Serializer = l.Serializer
	}
	l.settings = s
	return oneline.Join(l.validate(), s.Validate())
}

// Place implements [guest.ChannelLayer].
func (l *RedisPubSubLayer) Place() string { return l.settings.Place() }

// Open implements [guest.ChannelLayer].
func (l *RedisPubSubLayer) Open(log *slog.Logger) (relay.Broker, error) {
	return pubsub.New(l.settings, log)
}

// Apply implements [guest.ChannelLayer].
func (l *RedisPubSubLayer) Apply(b relay.Broker) error { return b.(*pubsub.Broker).Apply(l.settings) }

// UnmarshalCaddyfile reads `channel_layer redis_pubsub [<url>...] { … }`.
func (l *RedisPubSubLayer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	l.URLs = d.RemainingArgs()
	return settings.Read(d, "channel_layer redis_pubsub", l)
}

var (
	_ guest.ChannelLayer    = (*RedisPubSubLayer)(nil)
	_ caddy.Provisioner     = (*RedisPubSubLayer)(nil)
	_ caddyfile.Unmarshaler = (*RedisPubSubLayer)(nil)
)
