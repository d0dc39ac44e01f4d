package ws_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

func TestFramesInThePacketOfTheHandshake(t *testing.T) {
	s := newServer(t, false)
	c, _ := s.dial(t, append(frame(0x81, "early"), frame(0x81, strings.Repeat("y", 1000))...)...)
	c.want(0x81, "early")
	c.want(0x81, strings.Repeat("y", 1000))
}

func TestInvalidHandshakesAreRejected(t *testing.T) {
	s := newServer(t, false)
	for _, c := range []struct {
		name, method string
		headers      map[string]string
		status       int
		header       string
	}{
		{"POST", "POST", nil, 405, "Allow"},
		{"no version", "GET", map[string]string{"Sec-WebSocket-Version": ""}, 426, "Sec-WebSocket-Version"},
		{"version 8", "GET", map[string]string{"Sec-WebSocket-Version": "8"}, 426, "Sec-WebSocket-Version"},
		{"two versions", "GET", map[string]string{"Sec-Websocket-Version": "13"}, 426, "Sec-WebSocket-Version"},
		{"no key", "GET", map[string]string{"Sec-WebSocket-Key": ""}, 400, ""},
		{"short key", "GET", map[string]string{"Sec-WebSocket-Key": "AAAA"}, 400, ""},
		{"no upgrade in Connection", "GET", map[string]string{"Connection": "close"}, 400, ""},
	} {
		r, _ := http.NewRequest(c.method, s.URL, nil)
		for k, v := range map[string]string{
			"Upgrade": "websocket", "Connection": "Upgrade",
			"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
		} {
			r.Header.Set(k, v)
		}
		for k, v := range c.headers {
			r.Header.Del(k)
			if v != "" {
				r.Header.Set(k, v)
			}
			if c.name == "two versions" {
				r.Header.Add(k, "8")
			}
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || c.header != "" && resp.Header.Get(c.header) == "" {
			t.Errorf("%s: %d %v, want %d and %s", c.name, resp.StatusCode, resp.Header, c.status, c.header)
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		origins, origin, host string
		want                  bool
	}{
		{"", "", "awx.example.com", true},
		{"", "https://awx.example.com", "awx.example.com", true},
		{"", "https://AWX.example.com", "awx.example.com", true},
		{"", "https://awx.example.com", "awx.example.com:443", true},
		{"", "http://awx.example.com:80", "awx.example.com", true},
		{"", "https://awx.example.com:8443", "awx.example.com", false},
		{"", "https://evil.example", "awx.example.com", false},
		{"", "null", "awx.example.com", false},
		{"", "https://awx.example.com.evil.example", "awx.example.com", false},
		{"*", "https://evil.example", "awx.example.com", true},
		{"*", "null", "awx.example.com", true},
		{"https://ui.example.com", "https://ui.example.com", "awx.example.com", true},
		{"https://ui.example.com", "http://ui.example.com", "awx.example.com", false},
		{"ui.example.com", "http://ui.example.com", "awx.example.com", true},
		{"https://*.example.com", "https://a.b.example.com", "x", true},
		{"https://*.example.com", "https://example.com", "x", false},
		{"https://*.example.com", "https://evilexample.com", "x", false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if got := ws.Origins(strings.Fields(c.origins)).Allow(r, "", c.host); got != c.want {
			t.Errorf("%q with %q at %q: %v", c.origins, c.origin, c.host, got)
		}
	}
}
