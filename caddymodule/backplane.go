package caddymodule

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
)

// Backplane connects this node to others that have a channel layer of their own: relays, and AWX's Python nodes.
// Placeholders such as {env.BROADCAST_WEBSOCKET_SECRET} are replaced in all texts.
type Backplane struct {
	// Secret is AWX's BROADCAST_WEBSOCKET_SECRET, the same on all nodes; SecretPrevious is accepted, too, while it is being exchanged.
	Secret         string `json:"secret,omitempty"`
	SecretPrevious string `json:"secret_previous,omitempty"`
	// Peers are the URLs of other nodes, such as http://10.0.0.2 or https://node2.example.com. This node may be among them.
	Peers []string `json:"peers,omitempty"`
	// Dialect is "auto" (default), "broadcast", "relay" or "edgerelay": the first speaks with every node as it can, the next two
	// do what an AWX node of that generation does (9 to 21; 22 and later), the last refuses Python nodes.
	Dialect string `json:"dialect,omitempty"`
	// Emitters is "awx" (default), where only events marked or wrapped as AWX does travel to peers, or "any", where all do.
	Emitters string `json:"emitters,omitempty"`
	// NodeName is this node's name among its peers. Default: the host's name.
	NodeName string `json:"node_name,omitempty"`
	// Advertise is the URL under which other nodes reach this one.
	Advertise string `json:"advertise,omitempty"`
	// TLSCA are files of PEM certificates to trust for https peers, in place of the system's; TLSServerName is the name in
	// their certificates where it is not that in the URL.
	TLSCA                 []string `json:"tls_ca,omitempty"`
	TLSServerName         string   `json:"tls_server_name,omitempty"`
	TLSInsecureSkipVerify bool     `json:"tls_insecure_skip_verify,omitempty"`
	// Retry is the longest pause between attempts to reach a peer. Default: 5s.
	Retry caddy.Duration `json:"retry,omitempty"`
	// Ping is the time between pings; Silence how long an answer may take. Defaults: 10s, 20s.
	Ping    caddy.Duration `json:"ping,omitempty"`
	Silence caddy.Duration `json:"silence,omitempty"`
	// QueuePerPeer is how many bytes may wait for one peer; then the oldest events are dropped. Default: 8 MiB.
	QueuePerPeer int `json:"queue_per_peer,omitempty"`
	// FrameSize is the longest message that a peer may send, in bytes. Default: 16 MiB.
	FrameSize int `json:"frame_size,omitempty"`
	// SubscribeWait is how long a client's subscription waits at most for peers to know of it. Default: 250ms.
	SubscribeWait caddy.Duration `json:"subscribe_wait,omitempty"`
	// DNS, Redis and Postgres find peers besides those listed.
	DNS      []DNSDiscovery      `json:"dns,omitempty"`
	Redis    []RedisDiscovery    `json:"redis,omitempty"`
	Postgres []PostgresDiscovery `json:"postgres,omitempty"`

	settings backplane.Settings
	// serverName is TLSServerName with placeholders replaced, roots are the certificates in TLSCA.
	serverName string
	roots      [][]byte
	// key is of all settings with placeholders replaced: a reload that does not change it touches nothing.
	key [sha256.Size]byte
}

// DNSDiscovery finds peers behind a name.
type DNSDiscovery struct {
	// Name has A and AAAA records, or SRV records if it begins with an underscore.
	Name string `json:"name"`
	// Scheme is http (default) or https, Port 80 or 443 by default.
	Scheme string `json:"scheme,omitempty"`
	Port   int    `json:"port,omitempty"`
	// Dialect is broadcast or relay where Python nodes are behind the name: they are sent AWX's header, which can be
	// replayed for five minutes. Default: none are, and relays prove that they know the secret by a challenge.
	Dialect string `json:"dialect,omitempty"`
	// Every is the time between look-ups. Default: 10s.
	Every caddy.Duration `json:"every,omitempty"`
}

// RedisDiscovery finds peers in a registry that all nodes share.
type RedisDiscovery struct {
	// URL is the Redis of the registry.
	URL string `json:"url"`
	// Every is the time between announcements; three times that makes a node forgotten. Default: 5s.
	Every caddy.Duration `json:"every,omitempty"`
}

// PostgresDiscovery hears and sends the heartbeats of AWX's web nodes (22 and later).
type PostgresDiscovery struct {
	// DSN is the connection string of AWX's database.
	DSN string `json:"dsn"`
	// IP is the address that is announced; without it task nodes dial node_name.
	IP string `json:"ip,omitempty"`
	// Scheme and Port are those of all web nodes, as AWX's BROADCAST_WEBSOCKET_PROTOCOL and _PORT. Defaults: https, 443.
	Scheme string `json:"scheme,omitempty"`
	Port   int    `json:"port,omitempty"`
	// Every is the time between heartbeats; four times that makes a node forgotten. Default: 15s.
	Every caddy.Duration `json:"every,omitempty"`
}

// provision checks the settings and makes those of package backplane of them. It touches nothing outside.
func (b *Backplane) provision(log *slog.Logger) error {
	fail := func(setting string, err error) error { return fmt.Errorf("edgerelay: backplane: %s: %w", setting, err) }
	replaced := placeholders.New()
	s := backplane.Settings{
		Dialect:   backplane.Dialect(replaced.In("dialect", b.Dialect)),
		Name:      replaced.In("node_name", b.NodeName),
		Advertise: strings.TrimSuffix(replaced.In("advertise", b.Advertise), "/"),
		Retry:     time.Duration(b.Retry), Ping: time.Duration(b.Ping), Silence: time.Duration(b.Silence),
		JoinWait: time.Duration(b.SubscribeWait), QueueBytes: b.QueuePerPeer, FrameSize: b.FrameSize,
	}
	if s.Name == "" {
		s.Name, _ = os.Hostname() // only a name for people, but for postgres, which checks
	}
	if b.Secret != "" { // Validate tells that it is missing
		s.Secrets = backplane.Secrets{replaced.In("secret", b.Secret)}
	}
	if b.SecretPrevious != "" {
		s.Secrets = append(s.Secrets, replaced.In("secret_previous", b.SecretPrevious))
	}
	switch emitters := replaced.In("emitters", b.Emitters); {
	case emitters == "any":
		s.AnyEvent = true
	case emitters != "" && emitters != "awx" && replaced.Err() == nil:
		return fmt.Errorf("edgerelay: backplane: emitters is awx or any, not %q", emitters)
	}
	var list backplane.Static
	for _, p := range b.Peers {
		for _, u := range strings.FieldsFunc(replaced.In("peers", p), func(r rune) bool { return r == ' ' || r == ',' }) {
			if _, e := backplane.ParseURL(u); e != nil {
				return fmt.Errorf("edgerelay: %w", e)
			}
			list = append(list, backplane.Target{URL: strings.TrimSuffix(u, "/"), Dialect: backplane.Auto})
		}
	}
	if len(list) > 0 {
		s.Discoveries = append(s.Discoveries, list)
	}
	for _, d := range b.DNS {
		name := replaced.In("dns", d.Name)
		scheme, port, e := schemeAndPort(replaced.In("dns: scheme", d.Scheme), "http", d.Port)
		if e != nil && replaced.Err() == nil {
			return fail("dns", e)
		}
		if host, number, e := net.SplitHostPort(name); e == nil {
			name = host
			if port, e = strconv.Atoi(number); e != nil || port < 1 || port > 65535 {
				return fail("dns", fmt.Errorf("%q is not a port", number))
			}
		}
		if name == "" {
			return fail("dns", fmt.Errorf("the name is missing"))
		}
		python := backplane.Dialect(replaced.In("dns: dialect", d.Dialect))
		if python != "" && python != backplane.Broadcast && python != backplane.Relay && replaced.Err() == nil {
			return fail("dns", fmt.Errorf("dialect is broadcast or relay, not %q", python))
		}
		s.Discoveries = append(s.Discoveries, &discovery.DNS{
			Name: name, Scheme: scheme, Port: port, Python: python, Every: time.Duration(d.Every), Log: log,
		})
	}
	for _, d := range b.Redis {
		r := &discovery.Redis{
			URL: replaced.In("redis", d.URL), Advertise: s.Advertise, Every: time.Duration(d.Every), TTL: 3 * time.Duration(d.Every), Log: log,
		}
		if e := r.Validate(); e != nil {
			return fmt.Errorf("edgerelay: %w", e)
		}
		s.Discoveries = append(s.Discoveries, r)
	}
	for _, d := range b.Postgres {
		scheme, port, e := schemeAndPort(replaced.In("postgres: scheme", d.Scheme), "https", d.Port)
		if e != nil && replaced.Err() == nil {
			return fail("postgres", e)
		}
		p := &discovery.Postgres{
			DSN: replaced.In("postgres", d.DSN), Hostname: s.Name, IP: replaced.In("postgres: ip", d.IP),
			Scheme: scheme, Port: port, Every: time.Duration(d.Every), Log: log,
		}
		if e := p.Validate(); e != nil {
			return fmt.Errorf("edgerelay: %w", e)
		}
		s.Discoveries = append(s.Discoveries, p)
	}
	var files []string
	for _, f := range b.TLSCA {
		files = append(files, replaced.In("tls_ca", f))
	}
	b.serverName = replaced.In("tls_server_name", b.TLSServerName)
	if err := replaced.Err(); err != nil {
		return fmt.Errorf("edgerelay: backplane: %w", err)
	}
	if err := b.provisionTLS(&s, files); err != nil {
		return fail("tls_ca", err)
	}
	if err := s.Validate(); err != nil {
		return fmt.Errorf("edgerelay: %w", err)
	}
	b.settings = s
	return b.makeKey()
}

func schemeAndPort(scheme, otherwise string, port int) (string, int, error) {
	if scheme == "" {
		scheme = otherwise
	}
	ports := map[string]int{"http": 80, "https": 443}
	if ports[scheme] == 0 {
		return "", 0, fmt.Errorf("scheme is http or https, not %q", scheme)
	}
	if port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%d is not a port", port)
	}
	if port == 0 {
		port = ports[scheme]
	}
	return scheme, port, nil
}

// provisionTLS trusts the certificates in files.
func (b *Backplane) provisionTLS(s *backplane.Settings, files []string) error {
	if len(files) == 0 && b.serverName == "" && !b.TLSInsecureSkipVerify {
		return nil
	}
	s.TLS = &tls.Config{
		ServerName: b.serverName, InsecureSkipVerify: b.TLSInsecureSkipVerify,
		MinVersion: tls.VersionTLS12,
	}
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if s.TLS.RootCAs == nil {
			s.TLS.RootCAs = x509.NewCertPool()
		}
		if !s.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate in PEM", file)
		}
		b.roots = append(b.roots, pem)
	}
	return nil
}

// makeKey condenses everything that makes a difference.
func (b *Backplane) makeKey() error {
	s := b.settings
	var found []string
	for _, d := range s.Discoveries {
		found = append(found, d.Key())
	}
	public, err := json.Marshal(b)
	if err != nil {
		return err
	}
	all, err := json.Marshal([]any{
		string(public), s.Secrets, s.Name, s.Advertise, s.Dialect, s.AnyEvent, found,
		b.serverName, b.roots,
	})
	if err != nil {
		return err
	}
	b.key = sha256.Sum256(all)
	return nil
}
