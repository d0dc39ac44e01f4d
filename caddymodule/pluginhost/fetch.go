package pluginhost

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay/outbound"
)

// Fetch lets a plugin make HTTP requests to some addresses. Redirects are not followed, and names that lead to
// addresses outside the public internet are refused.
type Fetch struct {
	// Addresses are schemes, hosts and ports to which requests may go, such as https://hooks.slack.com. A host
	// *.example.com stands for all hosts below example.com, and https://* for all hosts. Without a port, the scheme's
	// own counts. Placeholders such as {env.WEBHOOKS} are replaced.
	Addresses []string `json:"addresses,omitempty"`
	// Methods are the methods that requests may have. Default: GET and POST.
	Methods []string `json:"methods,omitempty" caddyfile:"<method>..." example:"POST"`
	// Headers are names of headers that requests may have besides Accept, Authorization, Content-Type, Idempotency-Key,
	// Range, User-Agent and the conditional ones.
	Headers []string `json:"headers,omitempty" caddyfile:"<name>..." example:"X-Api-Key"`
	// Private are networks outside the public internet to which requests may go. Metadata services of clouds are within
	// some of them.
	Private []string `json:"private,omitempty" caddyfile:"<network>..." example:"10.0.0.0/8"`
	// MaxRequest bounds the body of a request, in bytes. Default: 64 KiB.
	MaxRequest int64 `json:"max_request,omitempty" caddyfile:"<size>" min:"1"`
	// MaxResponse bounds the body of a response, in bytes. Default: 256 KiB.
	MaxResponse int64 `json:"max_response,omitempty" caddyfile:"<size>" min:"1"`
	// Timeout bounds a request, from the look-up of the host to the end of the response. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// InFlight bounds the plugin's requests at a time on this node. There is no queue. Default: 16.
	InFlight int `json:"in_flight,omitempty" caddyfile:"<requests>" min:"1"`
	// Rate bounds the plugin's requests per second on this node. Default: 10.
	Rate float64 `json:"rate,omitempty" caddyfile:"<per second>" min:"1"`
	// OnceFor is how long requests with the same "once" are not made again, on all nodes. Default: 1h.
	OnceFor caddy.Duration `json:"once_for,omitempty" caddyfile:"<duration>" min:"1"`
}

const (
	defaultOnceFor = time.Hour
	maxOnceFor     = 30 * 24 * time.Hour
)

// ReadBlock implements [settings.BlockReader]. It reads `fetch <address>... { … }`.
func (f *Fetch) ReadBlock(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Err("plugin: fetch takes at least one address, such as https://hooks.slack.com")
	}
	f.Addresses = append(f.Addresses, args...)
	return settings.Read(d, "fetch", f)
}

// policy checks the settings.
func (f *Fetch) policy() (p outbound.Policy, err error) {
	p = outbound.Policy{
		Methods: f.Methods, Headers: f.Headers, MaxRequest: f.MaxRequest, MaxResponse: f.MaxResponse,
		Timeout: time.Duration(f.Timeout), InFlight: f.InFlight, Rate: f.Rate,
	}
	for _, text := range f.Addresses {
		address, err := placeholders.Replace(text)
		if err != nil {
			return p, err
		}
		p.Origins = append(p.Origins, address)
	}
	for _, text := range f.Private {
		network, err := netip.ParsePrefix(text)
		if a, e := netip.ParseAddr(text); e == nil && a.Zone() == "" {
			network, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return p, fmt.Errorf("invalid private network %q; use one such as 10.0.0.0/8", text)
		}
		p.Private = append(p.Private, network)
	}
	if f.OnceFor < 0 || f.onceFor() > maxOnceFor {
		return p, fmt.Errorf("invalid once_for %v; use at most 30d", time.Duration(f.OnceFor))
	}
	return p, outbound.Check(p)
}

func (f *Fetch) onceFor() time.Duration {
	if f.OnceFor == 0 {
		return defaultOnceFor
	}
	return time.Duration(f.OnceFor)
}

// provisionFetch derives the policy of requests. The setting is its own grant.
func (p *Plugin) provisionFetch() (err error) {
	if p.Fetch == nil {
		if slices.Contains(p.Grants, string(plugins.GrantFetch)) {
			return errors.New("grant fetch names no addresses; write instead: fetch https://hooks.slack.com")
		}
		return nil
	}
	if p.requests, err = p.Fetch.policy(); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	if !slices.Contains(p.spec.Grants, plugins.GrantFetch) {
		p.spec.Grants = append(p.spec.Grants, plugins.GrantFetch)
	}
	return nil
}
