package cli

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// site starts a web server that gives every request the same response, and returns its address.
func site(t *testing.T, status int, kind, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		if kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// A site that listens at the address is not taken for the relay, whatever it answers.
func TestSitesAreNotTakenForTheAdminAPI(t *testing.T) {
	for _, s := range []struct {
		name       string
		status     int
		kind, body string
	}{
		{"empty", 200, "", ""},
		{"page", 200, "text/html; charset=utf-8", "<p>\n<p>"},
		{"text of JSON", 200, "text/plain", `{"status": "ok"}`},
		{"not found", 404, "text/html", "<html>\n<body>not here</body>"},
		{"JSON of another API", 404, "application/json", `{"detail": "Not Found"}`},
		{"redirect", 308, "", ""},
		{"TLS", 400, "", "Client sent an HTTP request to an HTTPS server.\n"},
		{"broken JSON", 200, "application/json", `{"status`},
		{"Caddy without the module", 404, "text/plain; charset=utf-8", "404 page not found\n"},
	} {
		t.Run(s.name, func(t *testing.T) {
			address := site(t, s.status, s.kind, s.body)
			for _, args := range [][]string{
				{"health"},
				{"health", "--live"},
				{"status"},
				{"top", "--once"},
				{"publish", "--group", "g", "--data", "1"},
				{"presence", "g"},
				{"group", "list"},
				{"group", "history", "g"},
				{"group", "replay", "g", "--since", "5m", "--yes"},
				{"connection", "list"},
				{"connection", "close", "--user", "u"},
				{"peer", "list"},
				{"drain", "--status"},
				{"doctor"},
				{"support-bundle", "--output", filepath.Join(t.TempDir(), "b.tar.gz")},
				{"plugin", "list"},
				{"plugin", "logs", "p"},
				{"plugin", "rollback", "p"},
			} {
				out := execute(t, append(args, "--address", address)...)
				out.wantError(t, exitFailed, address, "not Caddy's admin API", "set --address")
			}
		})
	}
}

// A stream of another program is no recording without events.
func TestSitesAreNotTakenForAStream(t *testing.T) {
	for _, address := range []string{site(t, 200, "", ""), site(t, 200, "text/html", "<p>\n")} {
		for _, args := range [][]string{{"tail", "g"}, {"plugin", "record", "p"}} {
			out := execute(t, append(args, "--address", address)...)
			out.wantError(t, exitFailed, "not Caddy's admin API", "set --address")
		}
	}
}

// JSON without a status is not the state of a relay.
func TestStateNeedsAStatus(t *testing.T) {
	address := site(t, 200, "application/json", `{"name": "another API"}`)
	for _, args := range [][]string{{"health"}, {"health", "--live"}, {"status"}, {"status", "--json"}} {
		execute(t, append(args, "--address", address)...).wantError(t, exitFailed, "not Caddy's admin API", "set --address")
	}
	ok := site(t, 200, "application/json", `{"status": "ok"}`+"\n")
	if out := execute(t, "health", "--address", ok); out != (outcome{stdout: "{\"status\": \"ok\"}\n"}) {
		t.Errorf("healthy: %+v", out)
	}
	ill := site(t, 503, "application/json", `{"status": "unavailable"}`+"\n")
	if out := execute(t, "health", "--address", ill); out.code != exitFailed || out.stdout != "{\"status\": \"unavailable\"}\n" {
		t.Errorf("unhealthy: %+v", out)
	}
	bad := site(t, 503, "application/json", `{"name": "another API"}`)
	execute(t, "health", "--address", bad).wantError(t, exitFailed, "not Caddy's admin API")
}

// An error of the admin API keeps its text.
func TestErrorsOfTheAdminAPI(t *testing.T) {
	address := site(t, 409, "application/json", `{"error": "another diagnosis is running; try again later"}`)
	out := execute(t, "doctor", "--address", address)
	out.wantError(t, exitFailed, "error: another diagnosis is running; try again later (HTTP 409)\n")
	if strings.Contains(out.stderr, "--config") {
		t.Errorf("a relay that runs: %q", out.stderr)
	}
}
