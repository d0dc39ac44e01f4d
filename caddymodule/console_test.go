package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/console"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Only operators see the console, by the same login as a websocket.
func TestConsoleIsForOperators(t *testing.T) {
	var down atomic.Bool
	awx := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := r.Cookie("awx_sessionid")
		switch {
		case down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case err != nil || session.Value == "old":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasPrefix(r.URL.Path, "/api/v2/jobs/"):
			w.WriteHeader(http.StatusForbidden)
		default:
			fmt.Fprintf(w, `{"count": 1, "results": [{"id": 7, "username": %q, "is_superuser": %t}]}`, session.Value, session.Value == "root")
		}
	}))
	defer awx.Close()
	s := newSite(t)
	get := func(path, session string) (*http.Response, string) {
		t.Helper()
		var resp *http.Response
		var body []byte
		err := again(func() error {
			req, err := http.NewRequest(http.MethodGet, "http://"+s.addr+path, nil)
			if err != nil {
				return err
			}
			req.Close = true
			if session != "" {
				req.Header.Set("Cookie", "awx_sessionid="+session)
			}
			if resp, err = http.DefaultTransport.RoundTrip(req); err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err = io.ReadAll(resp.Body)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	expect := func(path, session string, want int) string {
		t.Helper()
		resp, body := get(path, session)
		if resp.StatusCode != want {
			t.Errorf("%s as %q: %d %.200s, want %d", path, session, resp.StatusCode, body, want)
		}
		return body
	}

	s.mustLoad("auth awx "+awx.URL+" {\ncache 1ms\n}", "edgerelay\nedgerelay_console\nrespond next")
	for _, path := range []string{"/edgerelay/", "/edgerelay/overview", "/edgerelay/tail?group=jobs-summary"} {
		expect(path, "", 401)
		expect(path, "old", 401)
		expect(path, "alice", 403)
		expect(path, "root", 200)
		resp, _ := get(path, "root")
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; script-src 'sha256-") || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %q", path, resp.Header)
		}
	}
	if body := expect("/edgerelay/", "root", 200); strings.Contains(body, "http://") && strings.Count(body, "http://") != strings.Count(body, "http://www.w3.org/2000/svg") || strings.Contains(body, "https://") {
		t.Error("the page names another server")
	}
	expect("/edgerelay/tail?group=job_events-42", "root", 403) // AWX says so
	down.Store(true)
	testkit.Eventually(t, "what AWX said before is forgotten", func() error {
		if resp, _ := get("/edgerelay/overview", "root"); resp.StatusCode != 503 {
			return errors.New(resp.Status)
		}
		return nil
	})
	down.Store(false)
	if body := expect("/edgerelayed", "", 200); body != "next" {
		t.Errorf("beside the console: %s", body)
	}

	s.mustLoad("auth awx "+awx.URL+" {\ncache 1ms\n}", "edgerelay_console /ops/relay {\noperators alice 8\n}\nrespond next")
	expect("/ops/relay/", "alice", 200)
	expect("/ops/relay/", "root", 403)
	if resp, _ := get("/ops/relay", ""); resp.StatusCode != 308 || resp.Header.Get("Location") != "relay/" {
		t.Errorf("%d %q", resp.StatusCode, resp.Header)
	}
	if body := expect("/edgerelay/", "alice", 200); body != "next" {
		t.Errorf("where the console is not: %s", body)
	}

	for lines, want := range map[string]string{
		"edgerelay_console":                       "operators <user>",
		"edgerelay_console / {\noperators a\n}":   "invalid path",
		"edgerelay_console ops {\noperators a\n}": "a handle block",
		"edgerelay_console {\noperators\n}":       "at least one",
		"edgerelay_console {\noperator a\n}":      "no setting",
		"edgerelay_console /a /b":                 "rong argument",
	} {
		if err := s.load(s.file("auth caddy", lines)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", lines, err, want)
		}
	}
}

// A tail that no page asks for any more is closed.
func TestConsoleTailsEnd(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay_console")
	n := node.Current()
	for i := range console.MaxTails {
		if status, body := s.get(fmt.Sprintf("http://%s/edgerelay/tail?group=jobs-%d", s.addr, i)); status != 200 {
			t.Fatal(status, body)
		}
	}
	if status, _ := s.get(fmt.Sprintf("http://%s/edgerelay/tail?group=more", s.addr)); status != 429 {
		t.Errorf("one too many: %d", status)
	}
	if got := n.Hub.Stats().Groups; got != console.MaxTails {
		t.Errorf("%d groups", got)
	}
	for range 3 {
		s.post("/edgerelay/publish", `{"group": "jobs-0", "data": 1}`)
	}
	_, body := s.get(fmt.Sprintf("http://%s/edgerelay/tail?group=jobs-0", s.addr))
	if !strings.Contains(body, `"next":3,"dropped":0`) || strings.Count(body, `"text":"1"`) != 3 {
		t.Error(body)
	}
	if _, body = s.get(fmt.Sprintf("http://%s/edgerelay/tail?group=jobs-0&after=2", s.addr)); strings.Count(body, `"text":"1"`) != 1 {
		t.Error(body)
	}
	for range 600 {
		s.post("/edgerelay/publish", `{"group": "jobs-0", "data": 1}`)
	}
	if _, body = s.get(fmt.Sprintf("http://%s/edgerelay/tail?group=jobs-0&after=3", s.addr)); !strings.Contains(body, `"next":603,"dropped":400`) || strings.Count(body, `"text":"1"`) != console.MaxTailEvents {
		t.Errorf("%.300s", body)
	}
	console.CloseIdleTails(n, n.Started.AddDate(1, 0, 0))
	if got := n.Hub.Stats().Groups; got != 0 {
		t.Errorf("%d groups afterwards", got)
	}
}
