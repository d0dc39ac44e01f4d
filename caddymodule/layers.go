package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/memory"
	"github.com/edgerelay/edgerelay/relay/redis"
)

func init() {
	caddy.RegisterModule(MemoryLayer{})
	caddy.RegisterModule(RedisLayer{})
}

// MemoryLayer is the channel layer inside this process: events come from the admin API and the demo only.
type MemoryLayer struct{}

// CaddyModule returns the Caddy module information.
func (MemoryLayer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.channel_layers.memory", New: func() caddy.Module { return new(MemoryLayer) }}
}

// Place implements [ChannelLayer].
func (MemoryLayer) Place() string { return "memory" }

// Open implements [ChannelLayer].
func (MemoryLayer) Open(*slog.Logger) (relay.Broker, error) { return memory.NewLayer().Broker(), nil }

// Apply implements [ChannelLayer].
func (MemoryLayer) Apply(relay.Broker) error { return nil }

// UnmarshalCaddyfile reads `channel_layer memory`.
func (MemoryLayer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Err("channel_layer memory has no settings")
	}
	return nil
}

// RedisLayer is the channel layer of channels_redis. The settings have the names and defaults of Python's CHANNEL_LAYERS and
// must be the same there.
type RedisLayer struct {
	// URLs are the hosts: redis://, rediss:// or unix://. Placeholders such as {env.REDIS_URL} are replaced.
	URLs []string `json:"urls,omitempty"`
	// Prefix begins every key. Default: asgi.
	Prefix string `json:"prefix,omitempty"`
	// Capacity is how many messages may wait for one receiver. Default: 100 (AWX: 10000).
	Capacity int `json:"capacity,omitempty"`
	// Expiry is how long a message waits. Default: 60s.
	Expiry caddy.Duration `json:"expiry,omitempty"`
	// GroupExpiry is how long a membership lasts that is not renewed. Default: 24h (AWX: 157784760s).
	GroupExpiry caddy.Duration `json:"group_expiry,omitempty"`
	// Serializer is "msgpack" (default) or "json".
	Serializer string `json:"serializer,omitempty"`

	settings redis.Settings
}

// CaddyModule returns the Caddy module information.
func (RedisLayer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.channel_layers.redis", New: func() caddy.Module { return new(RedisLayer) }}
}

// Provision checks the settings.
func (l *RedisLayer) Provision(caddy.Context) error {
	s := redis.DefaultSettings()
	if len(l.URLs) > 0 {
		s.URLs = nil
		repl := caddy.NewReplacer()
		for _, u := range l.URLs {
			expanded, err := repl.ReplaceOrErr(u, true, true)
			if err != nil {
				return fmt.Errorf("channel_layer redis: url: %w", err)
			}
			s.URLs = append(s.URLs, expanded)
		}
	}
	if l.Prefix != "" {
		s.Prefix = l.Prefix
	}
	if l.Capacity != 0 {
		s.Capacity = l.Capacity
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
	return s.Validate()
}

// Place implements [ChannelLayer].
func (l *RedisLayer) Place() string { return l.settings.Place() }

// Open implements [ChannelLayer].
func (l *RedisLayer) Open(log *slog.Logger) (relay.Broker, error) { return redis.New(l.settings, log) }

// Apply implements [ChannelLayer].
func (l *RedisLayer) Apply(b relay.Broker) error { return b.(*redis.Broker).Apply(l.settings) }

// UnmarshalCaddyfile reads
//
//	channel_layer redis [<url>...] {
//		url          <url>...
//		prefix       <prefix>
//		capacity     <messages>
//		expiry       <duration>
//		group_expiry <duration>
//		serializer   msgpack|json
//	}
func (l *RedisLayer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	l.URLs = d.RemainingArgs()
	for d.NextBlock(0) {
		name := d.Val()
		args := d.RemainingArgs()
		if name == "url" && len(args) > 0 {
			l.URLs = append(l.URLs, args...)
			continue
		}
		if len(args) != 1 {
			return d.Errf("%s takes one value", name)
		}
		var err error
		switch name {
		case "prefix":
			l.Prefix = args[0]
		case "capacity":
			l.Capacity, err = strconv.Atoi(args[0])
		case "expiry":
			l.Expiry, err = duration(args[0])
		case "group_expiry":
			l.GroupExpiry, err = duration(args[0])
		case "serializer":
			l.Serializer = args[0]
		default:
			return d.Errf("channel_layer redis has no setting %q; it has url, prefix, capacity, expiry, group_expiry and serializer", name)
		}
		if err != nil {
			return d.Errf("%s: %v", name, err)
		}
	}
	return nil
}

// duration reads a duration as Caddy writes it; a bare number is seconds, as in Python's settings.
func duration(s string) (caddy.Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		if n < 0 || !(n <= math.MaxInt64/float64(time.Second)/2) {
			return 0, errDuration
		}
		return caddy.Duration(n * float64(time.Second)), nil
	}
	d, err := caddy.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errDuration
	}
	return caddy.Duration(d), nil
}

var errDuration = errors.New("this is no duration; write it like 30s, 5m or 1d")

// positive is duration for what cannot be 0.
func positive(s string) (caddy.Duration, error) {
	d, err := duration(s)
	if err == nil && d == 0 {
		err = errors.New("it must be above 0")
	}
	return d, err
}

var (
	_ ChannelLayer      = (*MemoryLayer)(nil)
	_ ChannelLayer      = (*RedisLayer)(nil)
	_ caddy.Provisioner = (*RedisLayer)(nil)
)
