package discovery

import (
	"fmt"
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
	caddy.RegisterModule(Postgres{})
}

// Postgres receives and sends the heartbeats of AWX's web nodes (22 and later) through AWX's database. The node
// announces itself by the backplane's `node_name`.
type Postgres struct {
	// DSN is the connection string of AWX's database, such as postgres://user:password@host:5432/awx.
	DSN string `json:"dsn"`
	// IP is the address to announce. Default: none; task nodes dial node_name.
	IP string `json:"ip,omitempty" caddyfile:"<address>"`
	// Scheme is the scheme of all web nodes, "http" or "https", as AWX's BROADCAST_WEBSOCKET_PROTOCOL. Default: https.
	Scheme string `json:"scheme,omitempty" caddyfile:"http|https"`
	// Port is the port of all web nodes, as AWX's BROADCAST_WEBSOCKET_PORT. Default: 80 for http, 443 for https.
	Port int `json:"port,omitempty" caddyfile:"<port>" min:"1"`
	// Every is the time between heartbeats. A node without one for four times as long is missing. Default: 15s.
	Every caddy.Duration `json:"every,omitempty" caddyfile:"<duration>" min:"1"`

	settings discovery.Postgres
}

// CaddyModule returns the Caddy module information.
func (Postgres) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.discovery.postgres", New: func() caddy.Module { return new(Postgres) }}
}

// Provision checks the settings. Discovery checks the connection string, together with the name that it announces.
func (m *Postgres) Provision(caddy.Context) error {
	if err := settings.Check("postgres", m); err != nil {
		return err
	}
	replaced := placeholders.New()
	dsn, ip := replaced.In("postgres", m.DSN), replaced.In("postgres: ip", m.IP)
	scheme := replaced.In("postgres: scheme", m.Scheme)
	if err := replaced.Err(); err != nil {
		return err
	}
	if ip != "" {
		if err := settings.CheckHost(ip); err != nil {
			return fmt.Errorf("postgres: ip: %w", err)
		}
	}
	scheme, port, err := endpoint(scheme, "https", m.Port)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	m.settings = discovery.Postgres{DSN: dsn, IP: ip, Scheme: scheme, Port: port, Every: time.Duration(m.Every)}
	return nil
}

// Discovery implements [backplane.Discoverer].
func (m *Postgres) Discovery(self backplane.Self, log *slog.Logger) (backplane.Discovery, error) {
	found := m.settings
	found.Hostname, found.Log = self.Name, log
	return &found, found.Validate()
}

// UnmarshalCaddyfile reads `postgres <dsn> { … }`.
func (m *Postgres) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&m.DSN) {
		return d.Err("postgres takes one connection string, such as postgres://user:password@host:5432/awx")
	}
	return settings.Read(d, "postgres", m)
}

var (
	_ backplane.Discoverer  = (*Postgres)(nil)
	_ caddy.Provisioner     = (*Postgres)(nil)
	_ caddyfile.Unmarshaler = (*Postgres)(nil)
)
