package discovery

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

func init() {
	caddy.RegisterModule(Peers{})
}

// Peers lists the nodes to dial. Use it where nodes have fixed addresses; the other discoveries find nodes that come
// and go.
type Peers struct {
	// URLs name the nodes, such as http://10.0.0.2 or https://node2.example.com. This node may be in the list.
	// A placeholder may hold several entries, separated by spaces or commas.
	URLs []string `json:"url"`

	targets backplane.Static
}

// CaddyModule returns the Caddy module information.
func (Peers) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.discovery.peers", New: func() caddy.Module { return new(Peers) }}
}

// Provision checks the URLs.
func (p *Peers) Provision(caddy.Context) error {
	replaced := placeholders.New()
	separator := func(r rune) bool { return r == ' ' || r == ',' }
	for _, text := range p.URLs {
		for _, url := range strings.FieldsFunc(replaced.In("peers", text), separator) {
			if _, err := backplane.ParseURL(url); err != nil && replaced.Err() == nil {
				return fmt.Errorf("peers: %w", err)
			}
			if err := settings.CheckURLPort(url); err != nil {
				return fmt.Errorf("peers: %s: %w", url, err)
			}
			p.targets = append(p.targets, backplane.Target{URL: strings.TrimSuffix(url, "/"), Dialect: backplane.Auto})
		}
	}
	return replaced.Err()
}

// Discovery implements [backplane.Discoverer].
func (p *Peers) Discovery(backplane.Self, *slog.Logger) (backplane.Discovery, error) {
	return p.targets, nil
}

// UnmarshalCaddyfile reads `peers <url>...`
func (p *Peers) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if p.URLs = d.RemainingArgs(); len(p.URLs) == 0 {
		return d.Err("peers needs at least one URL, such as http://10.0.0.2")
	}
	if d.NextBlock(0) {
		return d.Errf("peers has no setting %q; remove the block", d.Val())
	}
	return nil
}

var (
	_ backplane.Discoverer  = (*Peers)(nil)
	_ caddy.Provisioner     = (*Peers)(nil)
	_ caddyfile.Unmarshaler = (*Peers)(nil)
)
