package backplane_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// Peers behind TLS are verified, unless that is switched off.
func TestTLSIsVerified(t *testing.T) {
	leakCheck(t)
	for name, c := range map[string]struct {
		config func(ca *x509.CertPool) *tls.Config
		works  bool
	}{
		"default":          {func(*x509.CertPool) *tls.Config { return nil }, false},
		"the right ca":     {func(ca *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: ca} }, true},
		"another name":     {func(ca *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: ca, ServerName: "elsewhere.org"} }, false},
		"not verified":     {func(*x509.CertPool) *tls.Config { return &tls.Config{InsecureSkipVerify: true} }, true},
		"an empty ca list": {func(*x509.CertPool) *tls.Config { return &tls.Config{RootCAs: x509.NewCertPool()} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
			b.start()
			secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if e, ok := backplane.Endpoint(r.URL.Path); ok {
					if status := b.plane.Serve(w, r, e); status != 0 {
						http.Error(w, http.StatusText(status), status)
					}
				}
			}))
			secure.Config.ErrorLog = nil
			secure.StartTLS()
			t.Cleanup(secure.Close)
			ca := x509.NewCertPool()
			ca.AddCert(secure.Certificate())
			a.start(peersOf(secure.URL), func(s *backplane.Settings) { s.TLS = c.config(ca) })
			if c.works {
				a.awaitSources(1)
				b.awaitSources(1)
				return
			}
			testkit.Eventually(t, "an error about the certificate", func() error {
				for _, p := range a.plane.Peers() {
					if strings.Contains(p.Error, "certificate") {
						return nil
					}
				}
				return fmt.Errorf("no error names the certificate: %+v", a.plane.Peers())
			})
			if a.sources() != 0 {
				t.Error("connected all the same")
			}
		})
	}
}

// New settings take effect while connections that they do not concern stay.
func TestApply(t *testing.T) {
	leakCheck(t)
	a, b, c := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	b.start()
	c.start()
	a.start(peersOf(b.server.URL))
	a.awaitSources(1)
	first := a.plane.Peers()[0]
	settings := backplane.Settings{
		Secrets:     backplane.Secrets{secret},
		Discoveries: []backplane.Discovery{backplane.Static{{URL: b.server.URL, Dialect: backplane.Auto}, {URL: c.server.URL, Dialect: backplane.Auto}}},
	}
	if err := a.plane.Apply(settings); err != nil {
		t.Fatal(err)
	}
	a.awaitSources(2)
	for _, p := range a.plane.Peers() {
		if p.URL == b.server.URL && !p.Since.Equal(first.Since) {
			t.Errorf("the connection was made again: %+v, %+v", first, p)
		}
	}
	settings.Discoveries = []backplane.Discovery{backplane.Static{{URL: c.server.URL, Dialect: backplane.Auto}}}
	if err := a.plane.Apply(settings); err != nil {
		t.Fatal(err)
	}
	a.awaitSources(1)
	b.awaitSources(0)
	settings.Secrets = nil
	if err := a.plane.Apply(settings); err == nil {
		t.Error("settings without a secret are taken")
	}
}

// A node that moves to the channel layer of a peer, as a reload may do, gets each event once from then on.
func TestLayerMoves(t *testing.T) {
	leakCheck(t)
	x, y := memory.NewLayer(), memory.NewLayer()
	a, b := newNode(t, x), newNode(t, y)
	mesh(t, []*node{a, b})
	c := a.client("g-1")
	if err := a.hub.SetBroker(context.Background(), y.Broker()); err != nil {
		t.Fatal(err)
	}
	a.plane.Refresh(context.Background())
	a.awaitSources(0)
	b.awaitSources(0)
	b.emit("g-1", "once")
	b.emit("g-1", "end")
	c.exactly(t, set([]string{"once", "end"}))
}

// Where emitters are not AWX's, all events travel.
func TestAnyEvent(t *testing.T) {
	any := func(s *backplane.Settings) { s.AnyEvent = true }
	a, b := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	mesh(t, []*node{a, b}, any)
	c, d := a.client("g-1"), b.client("g-1")
	for _, text := range []string{"1", "2"} {
		if _, err := a.hub.Publish(context.Background(), "g-1", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	c.exactly(t, set([]string{"1", "2"}))
	d.exactly(t, set([]string{"1", "2"}))
}

func TestSettingsAreChecked(t *testing.T) {
	good := backplane.Settings{Secrets: backplane.Secrets{"s"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for word, s := range map[string]backplane.Settings{
		"no secret":   {},
		"is empty":    {Secrets: backplane.Secrets{"s", ""}},
		"dialect":     {Secrets: good.Secrets, Dialect: "latin"},
		"invalid URL": {Secrets: good.Secrets, Advertise: "node2"},
		"negative":    {Secrets: good.Secrets, Ping: -1},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
	for _, u := range []string{"node2", "ftp://x", "http://", "http://a b", "http://u:p@x", "http://x?y=1", ""} {
		if _, err := backplane.ParseURL(u); err == nil {
			t.Errorf("%q is taken for a peer", u)
		}
	}
	for _, u := range []string{"http://x", "https://x:8443/prefix", "http://[fd00::1]:80/"} {
		if _, err := backplane.ParseURL(u); err != nil {
			t.Error(err)
		}
	}
	for path, want := range map[string]backplane.Dialect{
		"/websocket/broadcast/": backplane.Broadcast, "/websocket/relay": backplane.Relay, "/a/b/websocket/relay/": backplane.Relay,
		"/websocket/": "", "/websocket/relay/x": "", "/xwebsocket/relay": "", "/broadcast": "",
	} {
		if got, ok := backplane.Endpoint(path); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v", path, got, ok)
		}
	}
}
