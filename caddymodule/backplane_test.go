package caddymodule

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
)

// parseBackplane reads a backplane block and provisions it as Caddy does, by way of JSON.
func parseBackplane(t *testing.T, block string) (*Backplane, error) {
	t.Helper()
	d := caddyfile.NewTestDispenser("backplane {\n" + block + "\n}")
	d.Next()
	var parsed, b Backplane
	if err := settings.Read(d, "backplane", &parsed); err != nil {
		return nil, err
	}
	text, err := json.Marshal(&parsed)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	return &b, b.provision(ctx, slog.New(slog.DiscardHandler))
}

func TestBackplaneBlock(t *testing.T) {
	t.Setenv("CLUSTER_SECRET", "the current one")
	t.Setenv("CLUSTER_PEERS", "http://10.0.0.4, http://10.0.0.5/")
	b, err := parseBackplane(t, `
		secret {env.CLUSTER_SECRET} previous
		peers http://10.0.0.2 https://node3.example.com:8443
		peers {env.CLUSTER_PEERS}
		dialect auto
		node_name node1
		advertise http://10.0.0.1:8013/
		retry 3s
		ping 5
		silence 12s
		subscribe_wait 100ms
		queue_per_peer 4MiB
		queue_age 2m
		frame_size 2MiB
		dns relay.awx.svc.cluster.local:8013 {
			every 30s
		}
		dns _https._tcp.relay.example.com {
			scheme https
		}
		redis redis://10.0.0.9:6379/1
		postgres postgres://awx:password@db/awx {
			ip 10.0.0.1
			scheme http
			port 8013
		}`)
	if err != nil {
		t.Fatal(err)
	}
	s := b.settings
	if len(s.Secrets) != 2 || s.Secrets[0] != "the current one" || s.Secrets[1] != "previous" || s.Name != "node1" ||
		s.Advertise != "http://10.0.0.1:8013" || s.Retry != 3*time.Second || s.Ping != 5*time.Second || s.Silence != 12*time.Second ||
		s.JoinWait != 100*time.Millisecond || s.QueueBytes != 4<<20 || s.QueueAge != 2*time.Minute ||
		s.FrameSize != 2<<20 || len(s.Discoveries) != 6 {
		t.Errorf("%+v", s)
	}
	var urls []string
	for _, d := range s.Discoveries {
		if lister, ok := d.(backplane.Lister); ok {
			for _, p := range lister.List() {
				urls = append(urls, p.URL)
			}
		}
	}
	if got := strings.Join(urls, " "); got != "http://10.0.0.2 https://node3.example.com:8443 http://10.0.0.4 http://10.0.0.5" {
		t.Errorf("peers %s", got)
	}
	// The configuration that Caddy shows holds no secret that came from outside.
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "the current one") || !strings.Contains(string(text), "{env.CLUSTER_SECRET}") {
		t.Errorf("%s", text)
	}
	same, err := parseBackplane(t, "secret {env.CLUSTER_SECRET}\npeers http://10.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseBackplane(t, "secret {env.CLUSTER_SECRET}\npeers http://10.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLUSTER_SECRET", "the next one")
	other, err := parseBackplane(t, "secret {env.CLUSTER_SECRET}\npeers http://10.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	if same.key != again.key || same.key == other.key {
		t.Error("the key does not tell settings apart")
	}
}

// Placeholders are replaced in all texts, and a change of what they stand for is a change of the settings.
func TestBackplanePlaceholders(t *testing.T) {
	certificates := peers.MakeCertificates(t)
	block := "secret s\ntls_ca {env.ADV_CA}\ntls_server_name {env.ADV_NAME}\ndialect {env.ADV_DIALECT}\nemitters {env.ADV_EMITTERS}\n" +
		"dns name {\n scheme {env.ADV_SCHEME}\n}"
	for name, value := range map[string]string{
		"ADV_CA": certificates.CA, "ADV_NAME": "node.example.com", "ADV_DIALECT": "edgerelay", "ADV_EMITTERS": "any", "ADV_SCHEME": "https",
	} {
		t.Setenv(name, value)
	}
	b, err := parseBackplane(t, block)
	if err != nil {
		t.Fatal(err)
	}
	s := b.settings
	if s.TLS.ServerName != "node.example.com" || s.TLS.RootCAs == nil || s.Dialect != backplane.EdgeRelay ||
		!s.AnyEvent ||
		s.Discoveries[0].(*discovery.DNS).Scheme != "https" {
		t.Errorf("%+v", s)
	}
	for name, value := range map[string]string{
		"ADV_NAME": "other.example.com", "ADV_DIALECT": "auto",
		"ADV_EMITTERS": "awx", "ADV_SCHEME": "http",
	} {
		t.Setenv(name, value)
		changed, err := parseBackplane(t, block)
		if err != nil {
			t.Fatal(err)
		}
		if changed.key == b.key {
			t.Errorf("a change of %s is not noticed", name)
		}
		b = changed
	}
}

// foreignDiscovery is a guest module as a third party would write it.
type foreignDiscovery struct {
	Address string `json:"address"`
}

func (foreignDiscovery) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID: "edgerelay.discovery.foreign_test", New: func() caddy.Module { return new(foreignDiscovery) },
	}
}

func (f *foreignDiscovery) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&f.Address) {
		return d.ArgErr()
	}
	return nil
}

func (f *foreignDiscovery) Discovery(self backplane.Self, _ *slog.Logger) (backplane.Discovery, error) {
	return backplane.Static{{URL: "http://" + f.Address + "/" + self.Name}}, nil
}

func TestForeignDiscovery(t *testing.T) {
	caddy.RegisterModule(foreignDiscovery{})
	b, err := parseBackplane(t, "secret s\nnode_name n\nforeign_test 10.0.0.7\npeers http://10.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	if len(b.settings.Discoveries) != 2 {
		t.Fatalf("%d discoveries, want 2", len(b.settings.Discoveries))
	}
	got := b.settings.Discoveries[0].(backplane.Static)[0].URL
	if want := "http://10.0.0.7/n"; got != want {
		t.Errorf("the guest module got name or address wrong: %q, want %q", got, want)
	}
}

func TestBackplaneMistakes(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(junk, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for block, want := range map[string]string{
		"peers http://a":                                   "no secret",
		"secret {env.NOT_SET_ANYWHERE}":                    "NOT_SET_ANYWHERE",
		"secret a b c":                                     "previous",
		"secret s\npeers":                                  "peers needs",
		"secret s\npeers node2":                            `"node2"`,
		"secret s\ndialect morse":                          `"morse"`,
		"secret s\nemitters none":                          `"none"`,
		"secret s\nping soon":                              "ping",
		"secret s\nqueue_per_peer much":                    "queue_per_peer",
		"secret s\nqueue_per_peer 9EiB":                    "queue_per_peer: size 9EiB is too large",
		"secret s\nframe_size 9EiB":                        "frame_size: size 9EiB is too large",
		"secret s\nretry 99999999d":                        "retry",
		"secret s\ntls_ca {env.ADV_UNSET}":                 "tls_ca: ",
		"secret s\ntls_server_name {env.ADV_UNSET}":        "tls_server_name: ",
		"secret s\ndialect {env.ADV_UNSET}":                "dialect: ",
		"secret s\nemitters {env.ADV_UNSET}":               "emitters: ",
		"secret s\ndns name {\n scheme {env.ADV_UNSET}\n}": "dns: scheme: ",
		"secret s\nnode_name n\npostgres postgres://h/d {\n scheme {env.ADV_UNSET}\n}": "postgres: scheme: ",
		"secret s\nspeed 3":                       "and, to find peers, dns, ",
		"secret s\ndns name:port":                 "not a port",
		"secret s\ndns name {\n scheme gopher\n}": "gopher",
		"secret s\ndns name {\n ip 1\n}":          `no setting "ip"`,
		"secret s\nredis redis://r":               "advertise",
		"secret s\nadvertise http://a\nredis x":   "redis://user",
		"secret s\nnode_name n\npostgres ://":     "postgres://user",
		"secret s\ntls_ca " + junk:                "no certificate in PEM",
		"secret s\ntls_ca /does/not/exist":        "tls_ca",
	} {
		if _, err := parseBackplane(t, block); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something about %s", block, err, want)
		}
	}
}
