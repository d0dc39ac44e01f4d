package caddymodule

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// Backplane connects this node to nodes with a channel layer of their own: relays and AWX's Python nodes. Placeholders
// such as {env.BROADCAST_WEBSOCKET_SECRET} are replaced in all texts.
type Backplane struct {
	// Secret is AWX's BROADCAST_WEBSOCKET_SECRET, the same on all nodes.
	Secret string `json:"secret,omitempty" caddyfile:"<secret> [<previous>]"`
	// SecretPrevious is accepted as well, while the secret is being replaced node by node.
	SecretPrevious string `json:"secret_previous,omitempty"`
	// Discoveries find the peers. Each is a module of edgerelay.discovery.
	DiscoveriesRaw []json.RawMessage `json:"discoveries,omitempty" caddy:"namespace=edgerelay.discovery inline_key=kind"`
	// Dialect restricts the protocol between nodes. "auto" uses the best dialect that each node knows. "broadcast" is
	// the dialect of AWX 9 to 21, "relay" that of AWX 22 and later. "edgerelay" rejects Python nodes. Default: auto.
	Dialect string `json:"dialect,omitempty" caddyfile:"auto|broadcast|relay|edgerelay"`
	// Emitters selects the events that travel to peers: "awx" for events that are marked or wrapped like AWX's, "any"
	// for all events. Default: awx.
	Emitters string `json:"emitters,omitempty" caddyfile:"awx|any"`
	// NodeName is this node's name among its peers. Default: the host's name.
	NodeName string `json:"node_name,omitempty" caddyfile:"<name>"`
	// Advertise is the URL under which other nodes reach this one. Default: none.
	Advertise string `json:"advertise,omitempty" caddyfile:"<url>"`
	// TLSCA are files of PEM certificates to trust for https peers. Default: the system's.
	TLSCA []string `json:"tls_ca,omitempty" caddyfile:"<file>..."`
	// TLSServerName is the name in the peers' certificates. Default: the host in each peer's URL.
	TLSServerName string `json:"tls_server_name,omitempty" caddyfile:"<name>"`
	// TLSInsecureSkipVerify accepts any certificate. Anyone on the path to a peer can then read and change events.
	TLSInsecureSkipVerify bool `json:"tls_insecure_skip_verify,omitempty" caddyfile:"-"`
	// Retry is the longest pause between attempts to reach a peer. Default: 5s.
	Retry caddy.Duration `json:"retry,omitempty" caddyfile:"<duration>" min:"1"`
	// Ping is the time between pings. Default: 10s.
	Ping caddy.Duration `json:"ping,omitempty" caddyfile:"<duration>" min:"1"`
	// Silence is the time after which a peer times out that neither sends nor accepts data. Default: 20s.
	Silence caddy.Duration `json:"silence,omitempty" caddyfile:"<duration>" min:"1"`
	// QueuePerPeer is the number of bytes that may be queued for one peer; beyond it, the peer's oldest events are
	// dropped. Default: 8 MiB.
	QueuePerPeer int `json:"queue_per_peer,omitempty" caddyfile:"<size>" min:"1"`
	// QueueAge is the time for which an event may be queued for a peer; older ones are dropped, and the peer is told.
	// Default: 1m.
	QueueAge caddy.Duration `json:"queue_age,omitempty" caddyfile:"<duration>" min:"1"`
	// FrameSize is the longest message that a peer may send, in bytes. Default: 16 MiB.
	FrameSize int `json:"frame_size,omitempty" caddyfile:"<size>" min:"1"`
	// SubscribeWait is the longest time that a client's subscription waits for peers to confirm the interest. Default:
	// 250ms.
	SubscribeWait caddy.Duration `json:"subscribe_wait,omitempty" caddyfile:"<duration>" min:"1"`

	settings backplane.Settings
	// serverName is TLSServerName with placeholders replaced.
	serverName string
	// roots are the contents of the files in TLSCA.
	roots [][]byte
	// key identifies all settings with placeholders replaced: a reload with the same key changes nothing.
	key [sha256.Size]byte
}

// provision checks the settings and derives those of package backplane. It does not connect to any server.
func (b *Backplane) provision(ctx caddy.Context, log *slog.Logger) error {
	if err := b.provisionSettings(); err != nil {
		return fmt.Errorf("edgerelay: backplane: %w", err)
	}
	if err := b.provisionDiscoveries(ctx, log); err != nil {
		return fmt.Errorf("edgerelay: %w", err)
	}
	if err := b.settings.Validate(); err != nil {
		return fmt.Errorf("edgerelay: %w", err)
	}
	return b.makeKey()
}

// provisionSettings derives everything but the discoveries.
func (b *Backplane) provisionSettings() error {
	replaced := placeholders.New()
	s := backplane.Settings{
		Dialect:   backplane.Dialect(replaced.In("dialect", b.Dialect)),
		Name:      replaced.In("node_name", b.NodeName),
		Advertise: strings.TrimSuffix(replaced.In("advertise", b.Advertise), "/"),
		Retry:     time.Duration(b.Retry), Ping: time.Duration(b.Ping), Silence: time.Duration(b.Silence),
		Version:  node.Version().Relay,
		JoinWait: time.Duration(b.SubscribeWait), QueueBytes: b.QueuePerPeer,
		QueueAge: time.Duration(b.QueueAge), FrameSize: b.FrameSize,
	}
	if s.Name == "" {
		s.Name, _ = os.Hostname() // a label in most places; the postgres discovery rejects an empty name
	}
	if b.Secret != "" { // Validate reports a missing secret
		s.Secrets = backplane.Secrets{replaced.In("secret", b.Secret)}
	}
	if b.SecretPrevious != "" {
		s.Secrets = append(s.Secrets, replaced.In("secret_previous", b.SecretPrevious))
	}
	emitters := replaced.In("emitters", b.Emitters)
	var files []string
	for _, f := range b.TLSCA {
		files = append(files, replaced.In("tls_ca", f))
	}
	b.serverName = replaced.In("tls_server_name", b.TLSServerName)
	if err := replaced.Err(); err != nil {
		return err
	}
	switch emitters {
	case "", "awx":
	case "any":
		s.AnyEvent = true
	default:
		return fmt.Errorf("unknown emitters %q; use awx or any", emitters)
	}
	if err := b.provisionTLS(&s, files); err != nil {
		return fmt.Errorf("tls_ca: %w", err)
	}
	if err := settings.CheckURLPort(s.Advertise); err != nil {
		return fmt.Errorf("advertise: %w", err)
	}
	b.settings = s
	return nil
}

// provisionDiscoveries loads the guest modules.
func (b *Backplane) provisionDiscoveries(ctx caddy.Context, log *slog.Logger) error {
	loaded, err := ctx.LoadModule(b, "DiscoveriesRaw")
	if err != nil {
		return fmt.Errorf("backplane: discovery: %w", err)
	}
	self := backplane.Self{Name: b.settings.Name, Advertise: b.settings.Advertise}
	for _, module := range loaded.([]any) {
		d, err := module.(backplane.Discoverer).Discovery(self, log)
		if err != nil {
			return err
		}
		b.settings.Discoveries = append(b.settings.Discoveries, d)
	}
	return nil
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

// makeKey computes the key of all settings, with placeholders replaced and files read.
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

// config returns the node's settings of the backplane.
func (b *Backplane) config() *node.Backplane {
	return &node.Backplane{
		Settings: b.settings, Key: b.key,
		TLSKey: fmt.Sprint(b.serverName, b.TLSInsecureSkipVerify, b.roots),
	}
}
