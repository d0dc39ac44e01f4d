package publishing

import (
	"context"
	"crypto/tls"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestCleartext(t *testing.T) {
	for _, c := range []struct {
		name, address, proto string
		tls, trusted, want   bool
	}{
		{"from outside", "203.0.113.7", "", false, false, true},
		{"from outside, IPv6", "2001:db8::7", "", false, false, true},
		{"with TLS", "203.0.113.7", "", true, false, false},
		{"from this machine", "127.0.0.1", "", false, false, false},
		{"from the own network", "10.1.2.3", "", false, false, false},
		{"through a trusted proxy with TLS", "203.0.113.7", "https", false, true, false},
		{"through a trusted proxy without TLS", "203.0.113.7", "http", false, true, true},
		{"with a forged header", "203.0.113.7", "https", false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", nil)
			r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{
				caddyhttp.ClientIPVarKey: c.address, caddyhttp.TrustedProxyVarKey: c.trusted,
			}))
			if c.proto != "" {
				r.Header.Set("X-Forwarded-Proto", c.proto)
			}
			if c.tls {
				r.TLS = &tls.ConnectionState{}
			}
			if got := isCleartext(r); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	h := &Handler{path: "/edgerelay/publish"}
	for path, want := range map[string][2]bool{
		"/edgerelay/publish": {false, true}, "/edgerelay/publish/": {false, true},
		"/edgerelay/publish/openapi.json": {true, true}, "/edgerelay/publish/x": {}, "/edgerelay/publisher": {},
		"/edgerelay/": {}, "/": {}, "/edgerelay/publish//": {}, "/openapi.json": {},
	} {
		if description, ours := h.match(path); ours != want[1] || ours && description != want[0] {
			t.Errorf("%s: description %v, ours %v; want %v", path, description, ours, want)
		}
	}
}
