package e2e

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// proxyV1 and proxyV2 are headers of the PROXY protocol for a client at 192.0.2.7.
const (
	proxyV1 = "PROXY TCP4 192.0.2.7 127.0.0.1 50000 443\r\n"
	proxyV2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\xc3\x50\x01\xbb"
)

// prefixed starts a link to a host:port, or to a Unix socket, that sends a header before the first bytes of each
// connection, in one piece with them.
func prefixed(t *testing.T, to, header string) *testkit.Proxy {
	t.Helper()
	var mu sync.Mutex
	seen := map[int]bool{}
	return testkit.StartRelay(t, to, func(conn int, b []byte, to io.Writer) {
		mu.Lock()
		defer mu.Unlock()
		if !seen[conn] {
			seen[conn] = true
			b = append([]byte(header), b...)
		}
		_, _ = to.Write(b)
	}, nil)
}

// Connections keep the fast path behind everything that Caddy can put between the socket and the site: no goroutine for
// each of them, and no byte is lost that a wrapper has read ahead.
func TestWrappedConnectionsHoldNoGoroutine(t *testing.T) {
	t.Parallel()
	certs := peers.MakeCertificates(t)
	const (
		proxied, local = "192.0.2.7", "127.0.0.1" // addresses of clients

		proxyProtocol = "proxy_protocol {\nallow 127.0.0.1/32\n}\n"
		withProxy     = "listener_wrappers {\n" + proxyProtocol + "}"
		withProxyTLS  = "listener_wrappers {\n" + proxyProtocol + "tls\n}"
		withRedirect  = "listener_wrappers {\nhttp_redirect\ntls\n}"
		withAll       = "listener_wrappers {\n" + proxyProtocol + "http_redirect\ntls\n}\nprotocols h1"
	)
	for _, c := range []struct {
		name, servers, header string
		tls, unix             bool
		address               string // of the clients, as the relay sees it
	}{
		{name: "plain", address: local},
		{name: "PROXY protocol, version 1", servers: withProxy, header: proxyV1, address: proxied},
		{name: "PROXY protocol, version 2", servers: withProxy, header: proxyV2, address: proxied},
		{name: "PROXY protocol, absent", servers: withProxy, address: local},
		{name: "PROXY protocol before TLS", servers: withProxyTLS, header: proxyV2, tls: true, address: proxied},
		{name: "all wrappers of Caddy", servers: withAll, header: proxyV1, tls: true, address: proxied},
		{name: "TLS", tls: true, address: local},
		{name: "http_redirect before TLS", servers: withRedirect, tls: true, address: local},
		{name: "HTTP/1.1 only", servers: "protocols h1", address: local},
		{name: "HTTP/1.1 only, PROXY protocol", servers: "protocols h1\n" + withProxy, header: proxyV2, address: proxied},
		{name: "Unix socket", unix: true, servers: "trusted_proxies_unix"},
		{name: "PROXY protocol on a Unix socket", unix: true, servers: withProxy, header: proxyV2, address: proxied},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			site, scheme, bind, tls := testkit.Loopback(testkit.FreePort(t)), "http://", "127.0.0.1", ""
			to, listen := site, site
			if c.tls {
				scheme, tls = "https://", "tls "+certs.Cert+" "+certs.Key
			}
			if c.unix {
				to = filepath.Join(t.TempDir(), "s")
				bind, listen = "unix/"+to, "unix/"+to
			}
			global := "\tauto_https disable_redirects\n"
			if c.servers != "" {
				global += "servers " + listen + " {\n" + c.servers + "\n}\n"
			}
			r := peers.StartRelay(t, "{\nadmin {$ADMIN}\npersist_config off\nskip_install_trust\n"+global+
				"edgerelay {\nauth none\norigins *\n}\n}\n{$SITE} {\nbind 127.0.0.1\nrespond ok\n}\n"+
				scheme+site+" {\nbind "+bind+"\n"+tls+"\nedgerelay\n}\n")
			url := scheme + prefixed(t, to, c.header).Addr
			if c.header == "" {
				url = scheme + testkit.StartProxy(t, to).Addr
			}
			checkFastPath(t, r, url, c.address)
		})
	}
}

// checkFastPath connects clients, and compares the goroutines with those of before.
func checkFastPath(t *testing.T, r *peers.Relay, url, address string) {
	t.Helper()
	subscribe := wstest.MaskedFrame(0x81, `{"groups": {"jobs": ["status_changed"]}, "xrftoken": "x"}`)
	const clients = 60
	goroutines := func() (n int) {
		fmt.Sscanf(fetch(t, r.Admin+"/debug/pprof/goroutine?debug=1"), "goroutine profile: total %d", &n)
		return n
	}
	before := goroutines()
	var all []*wstest.Wire
	for range clients {
		w, err := wstest.DialWire(t, url)
		if err != nil {
			t.Fatal(err)
		}
		// The first message comes with the handshake.
		if err := w.Write(w.Handshake("/websocket/", "Cookie: csrftoken=x") + subscribe); err != nil {
			t.Fatal(err)
		}
		if resp, body, err := w.Response(); err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, body, err)
		}
		all = append(all, w)
	}
	next := func(w *wstest.Wire, want string) {
		t.Helper()
		f, err := w.Frame()
		if err != nil || !strings.Contains(string(f.Payload), want) {
			t.Fatalf("got %q, %v; want %s", f.Payload, err, want)
		}
	}
	for _, w := range all {
		next(w, "accept")
		next(w, "groups_current")
	}
	for i := range 3 {
		if status, body := call(t, "POST", r.Admin+"/edgerelay/publish", []byte(fmt.Sprintf(
			`{"group": "jobs-status_changed", "data": {"n": %d, "pad": %q}}`, i, strings.Repeat("x", 3000)))); status != 200 {
			t.Fatal(status, body)
		}
		for _, w := range all {
			next(w, fmt.Sprintf(`"n": %d`, i))
			if err := w.Write(wstest.MaskedFrame(0x89, "ping")); err != nil {
				t.Fatal(err)
			}
			next(w, "ping")
		}
	}
	testkit.Eventually(t, "no goroutine for a client", func() error {
		if now := goroutines(); now > before+clients/3 {
			return fmt.Errorf("%d goroutines with %d clients, %d before", now, clients, before)
		}
		return nil
	})
	if list := fetch(t, r.Admin+"/edgerelay/connections"); !strings.Contains(list, `"`+address+`"`) {
		t.Errorf("no client has the address %s: %.400s", address, list)
	}
	if _, ok := all[0].Conn.(*net.TCPConn); ok { // end one orderly, and the others abruptly
		_ = all[0].Write(wstest.MaskedFrame(0x88, "\x03\xe8"))
	}
	for _, w := range all {
		_ = w.Conn.Close()
	}
	testkit.Eventually(t, "the end of all connections", func() error {
		if list := fetch(t, r.Admin+"/metrics"); !strings.Contains(list, "\nedgerelay_connections 0\n") {
			return fmt.Errorf("connections stay")
		}
		return nil
	})
}
