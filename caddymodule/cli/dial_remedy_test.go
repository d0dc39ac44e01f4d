package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/doctor"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/wsclient"
)

// A URL that no websocket can have is an error of the command line, before anything is checked or dialed.
func TestURLsAreChecked(t *testing.T) {
	for _, url := range []string{
		"nonsense", "localhost:8013/websocket/", "ftp://localhost/", "ws://", "ws:///websocket/", "ws://localhost:0/",
		"ws://localhost:99999/", "ws://local host/", "ws://[::1/",
	} {
		for _, command := range []string{"doctor", "bench"} {
			out := execute(t, command, "--url", url, "--address", "localhost:1")
			out.wantError(t, exitUsage, "--url: invalid URL", "use one such as ws://localhost:8013/websocket/")
		}
	}
	execute(t, "doctor", "--channels", "--url", "nonsense").wantError(t, exitUsage, "--url: invalid URL")
	for _, url := range []string{
		"ws://localhost/", "wss://awx.example.com/websocket/", "http://[::1]:8013/websocket/", "https://a:8443",
	} {
		if err := checkURL(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// The remedy of a failed connection fits the cause, in bench as in the finding of the doctor.
func TestDialRemedies(t *testing.T) {
	withStatus := func(status int) string {
		return "ws://" + site(t, status, "text/plain", "x") + "/websocket/"
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	secureHost := strings.TrimPrefix(secure.URL, "https://")
	for _, c := range []struct{ name, url, cause, remedy string }{
		{"refused", fmt.Sprintf("ws://127.0.0.1:%d/", testkit.FreePort(t)), "connection refused", "start the site, or correct host and port"},
		{"not found", withStatus(404), "status 404 Not Found", "correct the path in --url"},
		{"no upgrade", withStatus(200), "status 200 OK", "pass Upgrade and Connection on"},
		{"bad request", withStatus(400), "status 400", "pass Upgrade and Connection on"},
		{"no login", withStatus(401), "status 401", "log in with a browser"},
		{"origin", withStatus(403), "status 403", "origins"},
		{"full", withStatus(503), "status 503", "see the relay's log"},
		{"proxy without a relay", withStatus(502), "status 502", "start the relay"},
		{"broken", withStatus(500), "status 500", "see the log of the relay"},
		{"plain to TLS", "ws://" + secureHost + "/", "status 400", "use wss://"},
		{"TLS to plain", strings.Replace(withStatus(200), "ws://", "wss://", 1), "HTTPS client", "use ws://"},
		{"authority", "wss://" + secureHost + "/", "certificate", "--ca"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := execute(t, "bench", "--url", c.url, "--clients", "1")
			out.wantError(t, exitFailed, "connecting client 1 of 1: ", c.cause, c.remedy)
			f := frontDoor(t.Context(), "localhost:1", &dialer{url: c.url})
			if f.Level != doctor.Failure || !strings.Contains(f.Text, c.cause) || !strings.Contains(f.Remedy, c.remedy) {
				t.Errorf("finding %+v, want cause %q and remedy %q", f, c.cause, c.remedy)
			}
			if strings.Contains(f.Text+out.stderr, "Get \"") {
				t.Errorf("the URL of the request is shown: %+v, %q", f, out.stderr)
			}
		})
	}
}

// Causes that a test cannot bring about without other hosts.
func TestRemoteDialRemedies(t *testing.T) {
	for remedy, err := range map[string]error{
		"correct the host name": &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true},
		"check the DNS servers": &net.DNSError{Err: "i/o timeout", Name: "x", IsTimeout: true},
		"the firewalls":         context.DeadlineExceeded,
		"csrftoken":             wsclient.ErrNotLoggedIn,
	} {
		if got := dialRemedy(fmt.Errorf("failed to WebSocket dial: %w", err)); !strings.Contains(got, remedy) {
			t.Errorf("%v: remedy %q, want %q", err, got, remedy)
		}
	}
}

// startAWX starts a server that accepts every user and subscription as a relay of AWX's protocol does, and returns its
// URL. It delivers no event.
func startAWX(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		_ = c.Write(r.Context(), websocket.MessageText, []byte(`{"accept": true}`))
		for {
			_, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			var wish struct{ Groups map[string][]string }
			_ = json.Unmarshal(message, &wish)
			for kind, items := range wish.Groups {
				reply, _ := json.Marshal(map[string]any{"groups_current": []string{kind + "-" + items[0]}})
				_ = c.Write(r.Context(), websocket.MessageText, reply)
			}
		}
	}))
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "http://", "ws://", 1) + "/websocket/"
}

// Without the admin API there are no events, and bench reports no deliveries. The remedy is that of the admin API.
func TestBenchWithoutTheAdminAPI(t *testing.T) {
	url, none := startAWX(t), fmt.Sprint("localhost:", testkit.FreePort(t))
	out := execute(t, "bench", "--url", url, "--clients", "2", "--duration", "1s", "--address", none)
	if out.code != exitUnreachable || strings.Contains(out.stdout, "deliveries") ||
		!strings.Contains(out.stderr, "start the relay, or set --address") {
		t.Errorf("got %+v", out)
	}
	if out := execute(t, "bench", "--json", "--url", url, "--duration", "1s", "--address", none); out.stdout != "" {
		t.Errorf("--json: got %+v", out)
	}
	if f := frontDoor(t.Context(), none, &dialer{url: url}); f.Remedy != "" || !strings.Contains(f.Text, "or set --address") {
		t.Errorf("finding %+v, want the remedy of the admin API alone", f)
	}
}

// An address of the demo that it cannot listen on has the remedy of the cause.
func TestDemoAddresses(t *testing.T) {
	port := fmt.Sprint(testkit.FreePort(t))
	for _, admin := range []string{"localhost:99999", "localhost:1-9", "tcp/a/b:c"} {
		out := execute(t, "demo", "--port", port, "--admin", admin)
		out.wantError(t, exitUsage, "--admin: invalid address", "use one such as localhost:2019")
	}
	execute(t, "demo", "--port", port, "--admin", "nonsense.invalid").
		wantError(t, exitUsage, "starting the demo: ", "set --admin to an address of this machine")
	execute(t, "demo", "--port", port, "--admin", "192.0.2.1:1").
		wantError(t, exitFailed, "starting the demo: ", "set --admin to an address of this machine")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	execute(t, "demo", "--port", port, "--admin", busy.Addr().String()).
		wantError(t, exitFailed, "stop the other program, or set --admin")
}
