package discovery

import (
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
)

func init() {
	caddy.RegisterModule(Redis{})
}

// Redis finds peers in a registry that all nodes share. The backplane needs `advertise`, the URL that this node
// registers.
type Redis struct {
	// URL is the Redis of the registry, such as redis://user:password@host:6379/0.
	URL string `json:"url"`
	// Every is the time between announcements. An announcement expires after three times as long. Default: 5s.
	Every caddy.Duration `json:"every,omitempty" caddyfile:"<duration>" min:"1"`

	url string
}

// CaddyModule returns the Caddy module information.
func (Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.discovery.redis", New: func() caddy.Module { return new(Redis) }}
}

// Provision replaces placeholders. Discovery checks the settings, together with the URL that it announces.
func (m *Redis) Provision(caddy.Context) error {
	if err := settings.Check("redis", m); err != nil {
		return err
	}
	replaced := placeholders.New()
	m.url = replaced.In("redis", m.URL)
	return replaced.Err()
}

// Discovery implements [backplane.Discoverer].
func (m *Redis) Discovery(self backplane.Self, log *slog.Logger) (backplane.Discovery, error) {
	every := time.Duration(m.Every)
	found := &discovery.Redis{URL: m.url, Advertise: self.Advertise, Every: every, TTL: 3 * every, Log: log}
	return found, found.Validate()
}

// UnmarshalCaddyfile reads `redis <url> { … }`.
func (m *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&m.URL) {
		return d.Err("redis takes one URL, such as redis://user:password@host:6379/0")
	}
	return settings.Read(d, "redis", m)
}

var (
	_ backplane.Discoverer  = (*Redis)(nil)
	_ caddy.Provisioner     = (*Redis)(nil)
	_ caddyfile.Unmarshaler = (*Redis)(nil)
)
