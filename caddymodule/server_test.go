package caddymodule

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
)

const patience = 10 * time.Second

const shake = "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

func TestPaths(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", `edgerelay
		respond "next"`)
	for path, ours := range map[string]bool{
		"/websocket": true, "/websocket/": true, "/api/websocket/": true, "/api/gw/v2/websocket/": true, "/a/b/c/websocket?x=1": true,
		"/": false, "/websockets/": false, "/xwebsocket": false, "/websocket/x": false, "/websocket//": false, "/WEBSOCKET/": false,
	} {
		resp, body := s.ask(path)
		if got := resp.StatusCode == 101; got != ours || !ours && body != "next" {
			t.Errorf("%s: %d %q, want it to be the relay's: %v", path, resp.StatusCode, body, ours)
		}
	}
	s.mustLoad("auth none", `edgerelay {
			path /ws /live/
			path /third
		}
		respond "next"`)
	for path, ours := range map[string]bool{"/ws": true, "/ws/": true, "/live": true, "/third/": true, "/websocket/": false, "/x/ws": false} {
		if resp, _ := s.ask(path); (resp.StatusCode == 101) != ours {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	s.mustLoad("auth none", `edgerelay {
			path /ws/chat/* */live
		}
		respond "next"`)
	for path, ours := range map[string]bool{
		"/ws/chat/room": true, "/WS/chat/a/b/": true, "/ws/chat": false, "/live": true, "/x/live/": true, "/x/lively": false,
	} {
		if resp, _ := s.ask(path); (resp.StatusCode == 101) != ours {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	s.mustLoad("auth none", `@inside path /inside/*
		edgerelay @inside
		respond "next"`)
	for path, ours := range map[string]bool{"/inside/websocket/": true, "/outside/websocket/": false} {
		if resp, _ := s.ask(path); (resp.StatusCode == 101) != ours {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

// Whatever else stands in the site block keeps working, and does not hide the websocket.
func TestNeighbours(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "backend %s %s", r.URL.Path, r.Header.Get("Upgrade"))
	}))
	defer backend.Close()
	www := t.TempDir()
	if err := os.WriteFile(filepath.Join(www, "index.html"), []byte("the page"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	for directives, answer := range map[string]string{
		"edgerelay\nrespond \"plain\"":                                                "plain",
		"edgerelay\nreverse_proxy " + backend.URL:                                     "backend /websocket/ ",
		"edgerelay\nroot * " + www + "\ntry_files {path} /index.html\nfile_server":    "the page",
		"encode gzip\nlog\nheader X-Y z\nedgerelay\nrespond \"plain\"":                "plain",
		"route {\nedgerelay\nrespond \"plain\"\n}":                                    "plain",
		"handle /other/* {\nrespond no\n}\nhandle {\nedgerelay\nrespond \"plain\"\n}": "plain",
	} {
		s.mustLoad("auth none", directives)
		c := s.subscribe("jobs-summary")
		if status, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": {"n":  1e2}}`); status != 200 || body != "{\"members\":1,\"over_capacity\":0}\n" {
			t.Errorf("%s: publish: %d %s", directives, status, body)
		}
		next(t, c, `{"n":  1e2}`)
		if _, body := s.raw("GET /websocket/ HTTP/1.1\r\nHost: " + s.addr + "\r\nConnection: close\r\n\r\n"); body != answer {
			t.Errorf("%s: without an upgrade: %q, want %q", directives, body, answer)
		}
		if _, body := s.raw("GET /websocket/ HTTP/1.1\r\nHost: " + s.addr + "\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"); !strings.HasPrefix(body, answer) {
			t.Errorf("%s: another upgrade: %q, want %q", directives, body, answer)
		}
	}
}

func TestHandshakesRefused(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none\norigins https://good.example https://*.wide.example", "edgerelay\nrespond next")
	for _, c := range []struct {
		status  int
		headers []string
	}{
		{101, nil},
		{426, []string{"Sec-WebSocket-Version: 8"}},
		{400, []string{"Sec-WebSocket-Key: short"}},
		{400, []string{"Sec-WebSocket-Key:"}},
		{400, []string{"Connection: keep-alive"}},
		{400, []string{"Content-Length: 5"}},
		{400, []string{"Transfer-Encoding: chunked"}},
		{101, []string{"Origin: http://" + s.addr}},
		{101, []string{"Origin: https://good.example"}},
		{101, []string{"Origin: https://a.wide.example"}},
		{403, []string{"Origin: https://wide.example"}},
		{403, []string{"Origin: https://evilwide.example"}},
		{403, []string{"Origin: http://good.example"}},
		{403, []string{"Origin: https://good.example.evil.example"}},
		{403, []string{"Origin: null"}},
		{403, []string{"Origin: http://127.0.0.1:1"}},
		{403, []string{"Origin: https://good.example@evil.example"}},
		{403, []string{"Origin: %"}},
	} {
		if resp, body := s.ask("/websocket/", c.headers...); resp.StatusCode != c.status || c.status != 101 && body == "" {
			t.Errorf("%q: %d %q, want %d", c.headers, resp.StatusCode, body, c.status)
		}
	}
	resp, body := s.raw(strings.Replace(fmt.Sprintf(shake, "/websocket/", s.addr), "GET", "POST", 1) + "\r\n")
	if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET" {
		t.Errorf("POST: %d %q", resp.StatusCode, body)
	}
	resp, body = s.raw(strings.Replace(fmt.Sprintf(shake, "/websocket/", s.addr), "HTTP/1.1", "HTTP/1.0", 1) + "\r\n")
	if resp.StatusCode != 426 {
		t.Errorf("HTTP/1.0: %d %q", resp.StatusCode, body)
	}
}

func TestConnectionLimits(t *testing.T) {
	for limit, status := range map[string]int{"connections_per_user 2": 429, "connections_per_address 2": 429, "connections 2": 503} {
		t.Run(limit, func(t *testing.T) {
			s := newSite(t)
			s.mustLoad("auth caddy\nlimits {\n"+limit+"\n}", "basic_auth {\nalice "+hash+"\n}\nedgerelay")
			alice := http.Header{"Authorization": {"Basic YWxpY2U6cHc="}}
			first, second := s.dial("/websocket/", alice), s.dial("/websocket/", alice)
			next(t, first, `{"accept": true, "user": "alice"}`)
			next(t, second, `{"accept": true, "user": "alice"}`)
			resp, body := s.ask("/websocket/", "Authorization: Basic YWxpY2U6cHc=")
			if resp.StatusCode != status || resp.Header.Get("Retry-After") == "" || body == "" {
				t.Errorf("the third: %d, Retry-After %q, %q; want %d", resp.StatusCode, resp.Header.Get("Retry-After"), body, status)
			}
			if err := first.Close(1000); err != nil {
				t.Error(err)
			}
			testkit.Eventually(t, "there is room again", func() error {
				if resp, _ := s.ask("/websocket/", "Authorization: Basic YWxpY2U6cHc="); resp.StatusCode != 101 {
					return fmt.Errorf("%d", resp.StatusCode)
				}
				return nil
			})
			if resp, _ := s.ask("/websocket/"); resp.StatusCode != 401 {
				t.Errorf("without a password: %d", resp.StatusCode)
			}
		})
	}
}

// hash is bcrypt of "pw" at the lowest cost.
const hash = "$2a$04$DWKsMHBpbOc1gtgrTdRG7ulf7EUpIF9XqcWvR5AyCS9.Il/JPkkvy"

// Clients that are not logged in count against the limits as long as their websocket stands.
func TestTurnedAway(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth caddy\nlimits {\nconnections_per_address 1\n}", "edgerelay")
	silent, _ := s.ask("/websocket/") // does not answer the close frame
	if silent.StatusCode != 101 {
		t.Fatal(silent.Status)
	}
	if resp, _ := s.ask("/websocket/"); resp.StatusCode != 429 {
		t.Errorf("the second: %d", resp.StatusCode)
	}
	testkit.Eventually(t, "the silent client is cut off", func() error {
		if resp, _ := s.ask("/websocket/"); resp.StatusCode != 101 {
			return errors.New(resp.Status)
		}
		return nil
	})

	s.mustLoad("auth caddy", "edgerelay")
	c := s.dial("/websocket/", nil)
	next(t, c, `{"close": true}`)
	if _, err := c.Next(patience); wstest.CloseCode(err) != 1000 {
		t.Errorf("closed with %v", err)
	}
	s.mustLoad("auth caddy\nunauthenticated reject", "edgerelay")
	if resp, body := s.ask("/websocket/"); resp.StatusCode != 403 || body != "not logged in\n" {
		t.Errorf("reject: %d %q", resp.StatusCode, body)
	}
}

func TestTLS(t *testing.T) {
	s := newSite(t)
	file := strings.Replace(s.file("auth none", "tls internal\nlog\nencode gzip\nedgerelay\nrespond next"), s.addr2(), "https://"+strings.Replace(s.addr, "127.0.0.1", "localhost", 1), 1)
	if err := s.load(file); err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"http/1.1"}}
	var conn *tls.Conn
	testkit.Eventually(t, "there is a certificate", func() (err error) {
		conn, err = tls.Dial("tcp", s.addr, config)
		return err
	})
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, shake+"Origin: https://localhost:%s\r\n\r\n", "/websocket/", strings.Replace(s.addr, "127.0.0.1", "localhost", 1), s.addr[strings.LastIndexByte(s.addr, ':')+1:])
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	want := relay.AppendFrame(nil, []byte(`{"accept": true, "user": 1}`))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// Behind a trusted proxy the address of the browser counts, and no other client can name one.
func TestClientAddress(t *testing.T) {
	for trusted, status := range map[string]int{"trusted_proxies static 127.0.0.1/32": 101, "": 429} {
		s := newSite(t)
		file := strings.Replace(s.file("auth none\nlimits {\nconnections_per_address 1\n}", "edgerelay"), "edgerelay {", "servers {\n"+trusted+"\n}\nedgerelay {", 1)
		if err := s.load(file); err != nil {
			t.Fatal(err)
		}
		if resp, _ := s.ask("/websocket/", "X-Forwarded-For: 10.0.0.1"); resp.StatusCode != 101 {
			t.Fatal(resp.Status)
		}
		if resp, _ := s.ask("/websocket/", "X-Forwarded-For: 10.0.0.2"); resp.StatusCode != status {
			t.Errorf("%q: another client: %d, want %d", trusted, resp.StatusCode, status)
		}
		if resp, _ := s.ask("/websocket/", "X-Forwarded-For: 10.0.0.1"); resp.StatusCode != 429 {
			t.Errorf("%q: the same client: %d", trusted, resp.StatusCode)
		}
	}
}

// Caddy starts apps in no order. A client that comes when the HTTP server is up and the relay is not waits, rather than
// being let in and denied its groups.
func TestClientBeforeTheRelay(t *testing.T) {
	s := newSite(t)
	config, err := adapt(s.file("auth none", "edgerelay"))
	if err != nil {
		t.Fatal(err)
	}
	var parsed caddy.Config
	if err := json.Unmarshal(config, &parsed); err != nil {
		t.Fatal(err)
	}
	parsed.Admin = &caddy.AdminConfig{Disabled: true}
	ctx, err := caddy.ProvisionContext(&parsed)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("edgerelay")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.(caddy.App).Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(server.(caddy.App).Stop(), app.(*App).Stop(), app.(*App).Cleanup()); err != nil {
			t.Error(err)
		}
	}()

	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, shake+"\r\n", "/websocket/", s.addr); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("answered before there is a relay: %d bytes, %v", n, err)
	}
	if err := app.(*App).Start(); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v; want 101", resp, err)
	}
}
