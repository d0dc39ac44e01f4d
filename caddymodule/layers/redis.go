package layers

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/internal/oneline"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

func init() {
	caddy.RegisterModule(RedisLayer{})
}

// RedisLayer is the counterpart of channels_redis's RedisChannelLayer. The settings have the names and defaults of
// Python's CHANNEL_LAYERS, and must have the same values there.
type RedisLayer struct {
	RedisCommon
	Resync
	// Capacity is the number of messages that may be queued for a receiver. Default: 100 (AWX: 10000).
	Capacity int `json:"capacity,omitempty" caddyfile:"<messages>" min:"1"`
	// ChannelCapacity sets the capacity for receivers with certain names. The first match applies.
	ChannelCapacity []ChannelCapacity `json:"channel_capacity,omitempty" caddyfile:"[regexp] <pattern> <messages>"`
	// Expiry is how long a message stays queued. Default: 60s.
	Expiry caddy.Duration `json:"expiry,omitempty" caddyfile:"<duration>" min:"1s"`
	// GroupExpiry is how long a membership lasts without renewal. Default: 24h (AWX: 157784760s).
	GroupExpiry caddy.Duration `json:"group_expiry,omitempty" caddyfile:"<duration>" min:"1s"`

	settings redis.Settings
}

// ChannelCapacity is a capacity for channels with certain names.
type ChannelCapacity struct {
	// Pattern is a glob over the whole name.
	Pattern string `json:"pattern"`
	// Regexp makes Pattern a regular expression that matches from the beginning of the name. Default: false.
	Regexp bool `json:"regexp,omitempty"`
	// Capacity is the number of messages that may be queued.
	Capacity int `json:"capacity"`
}

// CaddyModule returns the Caddy module information.
func (RedisLayer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.channel_layers.redis", New: func() caddy.Module { return new(RedisLayer) }}
}

// Provision checks the settings.
func (l *RedisLayer) Provision(caddy.Context) (err error) {
	s := redis.DefaultSettings()
	if err = settings.Check("channel_layer redis", l); err != nil {
		return err
	}
	if s.Hosts, s.EncryptionKeys, err = l.expand(s.Hosts, &s.Prefix); err != nil {
		return fmt.Errorf("channel_layer redis: %w", err)
	}
	if l.Capacity != 0 {
		s.Capacity = l.Capacity
	}
	for _, c := range l.ChannelCapacity {
		s.ChannelCapacity = append(s.ChannelCapacity, redis.ChannelCapacity(c))
	}
	if l.Expiry != 0 {
		s.Expiry = time.Duration(l.Expiry)
	}
	if l.GroupExpiry != 0 {
		s.GroupExpiry = time.Duration(l.GroupExpiry)
	}
	if l.Serializer != "" {
		s.Serializer = l.Serializer
	}
	l.settings = s
	return oneline.Join(l.validate(), s.Validate())
}

// Place implements [guest.ChannelLayer].
func (l *RedisLayer) Place() string { return l.settings.Place() }

// Open implements [guest.ChannelLayer].
func (l *RedisLayer) Open(log *slog.Logger) (relay.Broker, error) { return redis.New(l.settings, log) }

// Apply implements [guest.ChannelLayer].
func (l *RedisLayer) Apply(b relay.Broker) error { return b.(*redis.Broker).Apply(l.settings) }

// UnmarshalCaddyfile reads `channel_layer redis [<url>...] { … }`.
func (l *RedisLayer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	l.URLs = d.RemainingArgs()
	return settings.Read(d, "channel_layer redis", l)
}

// ReadSetting implements [settings.Reader] for sentinels and capacities.
func (l *RedisLayer) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	if d.Val() != "channel_capacity" {
		return l.RedisCommon.ReadSetting(d)
	}
	args, c := d.RemainingArgs(), ChannelCapacity{}
	if len(args) == 3 && args[0] == "regexp" {
		c.Regexp, args = true, args[1:]
	}
	if len(args) != 2 {
		return true, d.Err("channel_capacity takes a pattern and a number: " +
			"channel_capacity http.request* 20, or channel_capacity regexp ^http 20")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return true, d.Errf("channel_capacity: invalid number %q; use a value such as 20", args[1])
	}
	c.Pattern, c.Capacity = args[0], n
	l.ChannelCapacity = append(l.ChannelCapacity, c)
	return true, nil
}

var (
	_ guest.ChannelLayer    = (*RedisLayer)(nil)
	_ caddy.Provisioner     = (*RedisLayer)(nil)
	_ caddyfile.Unmarshaler = (*RedisLayer)(nil)
)
