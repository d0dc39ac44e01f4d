package layers

import (
	"fmt"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/internal/oneline"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/cluster"
)

func init() {
	caddy.RegisterModule(RedisClusterLayer{})
}

// RedisClusterLayer is a channel layer of edgerelay's own, with sharded pub/sub (Redis 7) on Redis Cluster or Valkey.
// The layer suits sites without Python emitters that have outgrown a single Redis. Redis stores the events of groups
// with history; any other event that is sent while a subscription is interrupted is lost. Placeholders such as
// {env.REDIS_PASSWORD} are replaced.
type RedisClusterLayer struct {
	// Addresses are some nodes of the cluster, host:port, from which the client finds all nodes. Default:
	// 127.0.0.1:6379.
	Addresses []string `json:"address,omitempty" caddyfile:"<host:port>..." example:"10.0.0.1:6379"`
	// Prefix begins every channel name. All nodes need the same prefix. Default: edgerelay.
	Prefix string `json:"prefix,omitempty" caddyfile:"<prefix>"`
	// Username is the user of all nodes of the cluster.
	Username string `json:"username,omitempty" caddyfile:"<name>"`
	// Password is the password of all nodes of the cluster.
	Password string `json:"password,omitempty" caddyfile:"<password>"`
	// TLS encrypts all connections. Default: no TLS.
	TLS *RedisTLS `json:"tls,omitempty" caddyfile:"{ … }"`
	Resync

	settings cluster.Settings
}

// CaddyModule returns the Caddy module information.
func (RedisClusterLayer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "edgerelay.channel_layers.redis_cluster",
		New: func() caddy.Module { return new(RedisClusterLayer) },
	}
}

// Provision checks the settings.
func (l *RedisClusterLayer) Provision(caddy.Context) error {
	if err := settings.Check("channel_layer redis_cluster", l); err != nil {
		return err
	}
	s := cluster.DefaultSettings()
	replaced := placeholders.New()
	if len(l.Addresses) > 0 {
		s.Addresses = nil
	}
	for _, a := range l.Addresses {
		s.Addresses = append(s.Addresses, replaced.In("address", a))
	}
	if l.Prefix != "" {
		s.Prefix = prefixIn(replaced, l.Prefix)
	}
	s.Username, s.Password = replaced.In("username", l.Username), replaced.In("password", l.Password)
	if t := l.TLS; t != nil {
		s.TLS = t.settings(replaced).Config
	}
	if err := replaced.Err(); err != nil {
		return fmt.Errorf("channel_layer redis_cluster: %w", err)
	}
	for _, a := range s.Addresses {
		if err := settings.CheckHostPort(a); err != nil {
			return fmt.Errorf("channel_layer redis_cluster: address: %w", err)
		}
	}
	l.settings = s
	return oneline.Join(l.validate(), s.Validate())
}

// Place implements [guest.ChannelLayer].
func (l *RedisClusterLayer) Place() string { return l.settings.Place() }

// Open implements [guest.ChannelLayer].
func (l *RedisClusterLayer) Open(log *slog.Logger) (relay.Broker, error) {
	return cluster.New(l.settings, log)
}

// Apply implements [guest.ChannelLayer].
func (l *RedisClusterLayer) Apply(b relay.Broker) error { return b.(*cluster.Broker).Apply(l.settings) }

// UnmarshalCaddyfile reads `channel_layer redis_cluster [<host:port>...] { … }`.
func (l *RedisClusterLayer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	l.Addresses = d.RemainingArgs()
	return settings.Read(d, "channel_layer redis_cluster", l)
}

var (
	_ guest.ChannelLayer    = (*RedisClusterLayer)(nil)
	_ caddy.Provisioner     = (*RedisClusterLayer)(nil)
	_ caddyfile.Unmarshaler = (*RedisClusterLayer)(nil)
)
