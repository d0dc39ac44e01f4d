package discovery

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
)

func init() {
	caddy.RegisterModule(DNS{})
}

// DNS finds peers behind a DNS name, such as that of a Kubernetes headless service.
type DNS struct {
	// Name is looked up for A and AAAA records, or for SRV records if it begins with an underscore. It may end in a
	// port, as in relay.example.com:8013.
	Name string `json:"name"`
	// Scheme is "http" or "https". Default: http.
	Scheme string `json:"scheme,omitempty" caddyfile:"http|https"`
	// Port is the port of nodes behind A and AAAA records. Default: 80 for http, 443 for https.
	Port int `json:"port,omitempty" caddyfile:"<port>" min:"1"`
	// Dialect is "broadcast" or "relay" if Python nodes of that generation are behind the name. These nodes are sent
	// AWX's header, which can be replayed for five minutes. Default: only relays are expected, which prove by a
	// challenge that they know the secret.
	Dialect string `json:"dialect,omitempty" caddyfile:"broadcast|relay"`
	// Every is the time between look-ups. Default: 10s.
	Every caddy.Duration `json:"every,omitempty" caddyfile:"<duration>" min:"1"`

	settings discovery.DNS
}

// CaddyModule returns the Caddy module information.
func (DNS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.discovery.dns", New: func() caddy.Module { return new(DNS) }}
}

// Provision checks the settings.
func (m *DNS) Provision(caddy.Context) error {
	if err := settings.Check("dns", m); err != nil {
		return err
	}
	replaced := placeholders.New()
	name, scheme := replaced.In("dns", m.Name), replaced.In("dns: scheme", m.Scheme)
	dialect := backplane.Dialect(replaced.In("dns: dialect", m.Dialect))
	if err := replaced.Err(); err != nil {
		return err
	}
	scheme, port, err := endpoint(scheme, "http", m.Port)
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	if host, number, err := net.SplitHostPort(name); err == nil {
		if strings.HasPrefix(host, "_") {
			return fmt.Errorf("dns: SRV records name the ports; remove :%s", number)
		}
		if m.Port != 0 {
			return errors.New("dns: the port is given twice; remove one")
		}
		name = host
		if port, err = strconv.Atoi(number); err != nil || port < 1 || port > 65535 {
			return fmt.Errorf("dns: %q is not a port; use 1 to 65535", number)
		}
	}
	if strings.HasPrefix(name, "_") && m.Port != 0 {
		return errors.New("dns: SRV records name the ports; remove port")
	}
	if name == "" {
		return errors.New("dns: the name is missing")
	}
	if err := settings.CheckHost(name); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	if dialect != "" && dialect != backplane.Broadcast && dialect != backplane.Relay {
		return fmt.Errorf("dns: unknown dialect %q; use broadcast or relay", dialect)
	}
	m.settings = discovery.DNS{
		Name: name, Scheme: scheme, Port: port, Python: dialect, Every: time.Duration(m.Every),
	}
	return nil
}

// Discovery implements [backplane.Discoverer].
func (m *DNS) Discovery(_ backplane.Self, log *slog.Logger) (backplane.Discovery, error) {
	found := m.settings
	found.Log = log
	return &found, nil
}

// UnmarshalCaddyfile reads `dns <name>[:<port>] { … }`.
func (m *DNS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&m.Name) {
		return d.Err("dns takes one name, such as relay.example.com:8013")
	}
	return settings.Read(d, "dns", m)
}

var (
	_ backplane.Discoverer  = (*DNS)(nil)
	_ caddy.Provisioner     = (*DNS)(nil)
	_ caddyfile.Unmarshaler = (*DNS)(nil)
)
