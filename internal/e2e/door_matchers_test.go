package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// The health endpoint answers where its matcher says, and paths are globs as elsewhere in Caddy.
func TestMatchersOfDirectives(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, doorSite("", "auth none", `
	edgerelay {
		path /ws/chat/* /live
	}
	edgerelay_health /healthz
	@probe path /probe
	edgerelay_health @probe
	handle /inside/* {
		edgerelay_health *
	}
	respond "next {path}" 404
`))
	for path, want := range map[string]int{
		"/healthz": 200, "/probe": 200, "/inside/health": 200, "/inside/x": 200, "/health": 404, "/other": 404,
	} {
		if status, body := call(t, http.MethodGet, r.URL+path, nil); status != want || want == 200 &&
			!strings.Contains(body, `"status":"ok"`) {
			t.Errorf("GET %s: %d %q, want %d", path, status, body, want)
		}
	}
	for path, want := range map[string]int{
		"/ws/chat/room1": 101, "/ws/chat/room1/": 101, "/ws/chat/a/b": 101, "/ws/chat": 404, "/ws/": 404,
		"/websocket/": 404,
		"/live":       101, "/live/": 101, "/lively": 404,
	} {
		if resp, body := shakeAt(t, r.URL, path); resp.StatusCode != want {
			t.Errorf("a handshake for %s: %d %q, want %d", path, resp.StatusCode, body, want)
		}
	}
	if err := r.Load(doorSite("", "auth none", "edgerelay_health\nrespond next 404")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/health": 200, "/healthz": 404} {
		if status, body := call(t, http.MethodGet, r.URL+path, nil); status != want {
			t.Errorf("GET %s: %d %q, want %d", path, status, body, want)
		}
	}
}

// An origin is a scheme and a host. Where TLS ends in Caddy, or a trusted proxy says where it ends, a page on plain
// HTTP may not open the websocket of the HTTPS site: anyone on the way could have put it there.
func TestOriginsAreComparedWithTheirScheme(t *testing.T) {
	t.Parallel()
	secure := fmt.Sprint("localhost:", testkit.FreePort(t))
	r := peers.StartRelay(t, doorSite(trustLoopback, "auth none\norigins https://ui.example", "edgerelay")+
		"https://"+secure+" {\n\tbind 127.0.0.1\n\ttls internal\n\tedgerelay\n}\n")
	host := strings.TrimPrefix(r.URL, "http://")
	testkit.Eventually(t, "there is a certificate", func() error {
		_, err := wstest.DialWire(t, "https://"+secure)
		return err
	})
	for _, c := range []struct {
		name    string
		url     string
		headers []string
		want    int
	}{
		{"TLS here, the same page", "https://" + secure, []string{"Origin: https://" + secure}, 101},
		{"TLS here, a page on plain HTTP", "https://" + secure, []string{"Origin: http://" + secure}, 403},
		{"TLS here, a scheme that is none", "https://" + secure, []string{"Origin: x://" + secure}, 403},
		{"nobody says where TLS ends", r.URL, []string{"Origin: https://" + host}, 101},
		{"plain HTTP", r.URL, []string{"Origin: http://" + host}, 101},
		{"a scheme that is none", r.URL, []string{"Origin: x://" + host}, 403},
		{"a trusted proxy says https", r.URL, []string{"X-Forwarded-Proto: https", "Origin: https://" + host}, 101},
		{
			"a trusted proxy says https, a page on plain HTTP", r.URL,
			[]string{"X-Forwarded-Proto: https", "Origin: http://" + host},
			403,
		},
		{"a trusted proxy says wss", r.URL, []string{"X-Forwarded-Proto: wss", "Origin: http://" + host}, 403},
		{"a trusted proxy says http", r.URL, []string{"X-Forwarded-Proto: http", "Origin: https://" + host}, 403},
		{
			"a trusted proxy has changed Host", r.URL,
			[]string{"X-Forwarded-Host: awx.example", "Origin: https://awx.example"},
			101,
		},
		{"a changed Host, another page", r.URL, []string{
			"X-Forwarded-Host: awx.example",
			"Origin: https://evil.example",
		}, 403},
		{
			"an origin of the configuration", r.URL,
			[]string{"X-Forwarded-Proto: https", "Origin: https://ui.example"},
			101,
		},
		{"the same on plain HTTP", r.URL, []string{"Origin: http://ui.example"}, 403},
	} {
		if resp, body := shakeAt(t, c.url, "/websocket/", c.headers...); resp.StatusCode != c.want {
			t.Errorf("%s: %d %q, want %d", c.name, resp.StatusCode, body, c.want)
		}
	}
	logs(t, r, "origin http://"+secure+" is not https://"+secure, 1)
	if err := r.Load(doorSite("", "auth none", "edgerelay")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a client that is no trusted proxy has no say", func() error {
		resp, body := shakeAt(t, r.URL, "/websocket/", "X-Forwarded-Host: evil.example", "Origin: https://evil.example")
		if resp.StatusCode != 403 {
			return fmt.Errorf("%d %q", resp.StatusCode, body)
		}
		return nil
	})
}
