package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	_ "github.com/edgerelay/edgerelay/internal/testkit/xconnect"
)

// http2Site is a site that speaks HTTP/2 without TLS.
func http2Site(t *testing.T, lines, directives string) *site {
	s := newSite(t)
	s.loadHTTP2(lines, directives)
	return s
}

func (s *site) loadHTTP2(lines, directives string) {
	s.t.Helper()
	file := strings.Replace(s.file(lines, directives), "edgerelay {", "servers {\nprotocols h1 h2c\n}\nedgerelay {", 1)
	if err := s.load(file); err != nil {
		s.t.Fatal(err)
	}
}

// connect opens an HTTP/2 connection.
func (s *site) connect() *wstest.HTTP2 {
	s.t.Helper()
	c, err := wstest.DialHTTP2(s.t, "http://"+s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// open opens a WebSocket over a stream, and reads the first frame.
func open(t testing.TB, c *wstest.HTTP2, path, first string, headers ...string) (*wstest.Wire, *http.Response) {
	t.Helper()
	w, resp, body, err := c.Connect(path, headers...)
	if err != nil || w == nil {
		t.Fatalf("%s: %+v %q, %v", path, resp, body, err)
	}
	wantFrame(t, w, 0x81, first)
	return w, resp
}

// wantFrame expects a frame.
func wantFrame(t testing.TB, w *wstest.Wire, first byte, payload string) {
	t.Helper()
	f, err := w.Frame()
	if err != nil || f.First != first || string(f.Payload) != payload {
		t.Fatalf("got %#x %q, %v; want %#x %q", f.First, f.Payload, err, first, payload)
	}
}

func TestWebSocketOverHTTP2(t *testing.T) {
	s := http2Site(t, "auth none", "edgerelay\nrespond next")
	conn := s.connect()
	w, _ := open(t, conn, "/websocket/", `{"accept": true, "user": 1}`, "Cookie: csrftoken=t")
	if err := w.Write(wstest.MaskedFrame(0x81, `{"groups": {"jobs": ["summary"]}, "xrftoken": "t"}`)); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, w, 0x81, `{"groups_current": ["jobs-summary"], "groups_left": [], "groups_joined": ["jobs-summary"]}`)
	if status, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": {"n":  1}}`); status != 200 {
		t.Fatalf("publish: %d %s", status, body)
	}
	wantFrame(t, w, 0x81, `{"n":  1}`)
	if err := w.Write(wstest.MaskedFrame(0x88, "\x03\xe8")); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, w, 0x88, "\x03\xe8")
	if f, err := w.Frame(); err == nil {
		t.Errorf("after the end: %#x %q", f.First, f.Payload)
	}
}

// A rejected handshake leaves the connection and its other streams alone, unlike one over HTTP/1.1.
func TestConnectHandshakes(t *testing.T) {
	s := http2Site(t, "auth none\norigins https://good.example", `edgerelay {
		path /ws/
		route /room/{name} {
			groups room.{name} all
		}
	}
	respond "next {http.request.method}" 418`)
	conn := s.connect()
	first, _ := open(t, conn, "/ws/", `{"accept": true, "user": 1}`)
	for _, c := range []struct {
		path    string
		status  int
		headers []string
	}{
		{"/ws/", 200, nil},
		{"/ws", 200, []string{"Origin: http://" + s.addr}},
		{"/ws/", 200, []string{"Origin: https://good.example"}},
		{"/ws/", 403, []string{"Origin: https://evil.example"}},
		{"/ws/", 403, []string{"Origin: null"}},
		{"/ws/", 400, []string{"Sec-WebSocket-Version: 8"}},
		{"/ws/", 400, []string{"Sec-WebSocket-Version:"}},
		{"/ws/", 501, []string{":protocol: webtransport"}},
		{"/other", 418, nil},
		{"/other", 418, []string{":protocol: webtransport"}},
		{"/room/a", 200, nil},
		{"/room/a", 403, []string{"Origin: https://evil.example"}},
	} {
		_, resp, body, err := conn.Connect(c.path, c.headers...)
		if err != nil || resp.StatusCode != c.status || c.status != 200 && body == "" {
			t.Errorf("%s %q: %+v %q, %v; want %d", c.path, c.headers, resp, body, err, c.status)
		}
		if resp != nil && resp.Header.Get("Connection") != "" {
			t.Errorf("%s %q: Connection: %q", c.path, c.headers, resp.Header.Get("Connection"))
		}
	}
	if err := first.Write(wstest.MaskedFrame(0x89, "p")); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, first, 0x8a, "p")
	if _, metrics := s.get("http://" + s.admin + "/metrics"); !strings.Contains(metrics, `edgerelay_connections_ended_total{reason="extended_connect"} 1`) {
		t.Errorf("rejections are not counted:\n%s", matching(metrics, "connections_ended"))
	}
}

// matching returns the lines of text that contain part.
func matching(text, part string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestConnectOff(t *testing.T) {
	s := http2Site(t, "auth none\nextended_connect off", "edgerelay")
	_, resp, body, err := s.connect().Connect("/websocket/")
	if err != nil || resp.StatusCode != 501 || body != "websockets need HTTP/1.1 here\n" {
		t.Fatalf("%+v %q, %v", resp, body, err)
	}
	if resp, _ := s.ask("/websocket/"); resp.StatusCode != 101 {
		t.Errorf("over HTTP/1.1: %s", resp.Status)
	}
	findings := s.doctor()
	if !strings.Contains(findings, "browsers cannot connect") {
		t.Errorf("doctor does not warn:\n%s", findings)
	}
	s.loadHTTP2("auth none", "edgerelay")
	testkit.Eventually(t, "the new configuration serves streams", func() error {
		_, resp, _, err := s.connect().Connect("/websocket/")
		if err == nil && resp.StatusCode != 200 {
			err = errors.New(resp.Status)
		}
		return err
	})
	if findings = s.doctor(); !strings.Contains(findings, "websockets over HTTP/2") ||
		strings.Contains(findings, "browsers cannot connect") {
		t.Errorf("doctor:\n%s", findings)
	}
}

// doctor returns the findings of the admin API.
func (s *site) doctor() string {
	s.t.Helper()
	status, body := s.post("/edgerelay/doctor", "")
	if status != 200 {
		s.t.Fatalf("doctor: %d %s", status, body)
	}
	return body
}

func TestConnectLimits(t *testing.T) {
	s := http2Site(t, "auth none\nlimits {\nconnections_per_address 2\n}", "edgerelay")
	conn := s.connect()
	first, _ := open(t, conn, "/websocket/", `{"accept": true, "user": 1}`)
	open(t, conn, "/websocket/", `{"accept": true, "user": 1}`)
	_, resp, body, err := conn.Connect("/websocket/")
	if err != nil || resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || body == "" {
		t.Errorf("the third: %+v %q, %v", resp, body, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "there is room again", func() error {
		_, resp, _, err := conn.Connect("/websocket/")
		if err == nil && resp.StatusCode != 200 {
			err = errors.New(resp.Status)
		}
		return err
	})
}

func TestConnectUnauthenticated(t *testing.T) {
	s := http2Site(t, "auth caddy", "edgerelay")
	w, _ := open(t, s.connect(), "/websocket/", `{"close": true}`)
	wantFrame(t, w, 0x88, "\x03\xe8")
	if err := w.Write(wstest.MaskedFrame(0x88, "\x03\xe8")); err != nil {
		t.Fatal(err)
	}
	if f, err := w.Frame(); err != io.EOF {
		t.Errorf("%#x %q, %v; want the end", f.First, f.Payload, err)
	}
	s.loadHTTP2("auth caddy\nunauthenticated reject", "edgerelay")
	testkit.Eventually(t, "a rejection", func() error {
		// The server of the former configuration may still accept a connection, which it serves or resets.
		c, err := wstest.DialHTTP2(t, "http://"+s.addr)
		if err != nil {
			return err
		}
		_, resp, body, err := c.Connect("/websocket/")
		if err == nil && (resp.StatusCode != 403 || body != "not logged in\n") {
			err = fmt.Errorf("%s: %q", resp.Status, body)
		}
		return err
	})
}

// Caddy's timeouts are those of requests. They must not end a WebSocket at rest.
func TestConnectOutlivesTimeouts(t *testing.T) {
	s := newSite(t)
	for name, directives := range map[string]string{
		"plain":      "edgerelay",
		"access log": "log {\noutput discard\n}\nencode gzip\nheader X-Y z\nheader >X-Z y\nedgerelay",
	} {
		t.Run(name, func(t *testing.T) {
			file := strings.Replace(s.file("auth none\nlimits {\nping 1s\n}", directives), "edgerelay {",
				"servers {\nprotocols h1 h2c\ntimeouts {\nread_body 1s\nwrite 1s\nread_body_idle 300ms\nwrite_idle 300ms\n}\n}\nedgerelay {", 1)
			if err := s.load(file); err != nil {
				t.Fatal(err)
			}
			w, resp := open(t, s.connect(), "/websocket/", `{"accept": true, "user": 1}`)
			if name == "access log" && resp.Header.Get("X-Y") != "z" {
				t.Errorf("headers of the site are missing: %v", resp.Header)
			}
			for range 3 {
				wantFrame(t, w, 0x89, "")
			}
			if err := w.Write(wstest.MaskedFrame(0x81, "x")); err != nil {
				t.Fatal(err)
			}
			wantFrame(t, w, 0x81, `{"error": "a message must be a JSON object"}`)
		})
	}
}

// WebSockets over HTTP/2 stay open through reloads, as those over HTTP/1.1 do, although the server of the configuration
// before serves them.
func TestConnectSurvivesReloads(t *testing.T) {
	s := newSite(t)
	load := func(answer int) {
		t.Helper()
		file := strings.NewReplacer("edgerelay {", "servers {\nprotocols h1 h2c\n}\nedgerelay {", "grace_period 1s", "").
			Replace(s.file("auth none", fmt.Sprintf("respond /x %d", answer)))
		if err := s.load(strings.Replace(file, "respond", "edgerelay\nrespond", 1)); err != nil {
			t.Fatal(err)
		}
	}
	load(200)
	w, _ := open(t, s.connect(), "/websocket/", `{"accept": true, "user": 1}`, "Cookie: csrftoken=t")
	for i := range 3 {
		load(201 + i)
	}
	if err := w.Write(wstest.MaskedFrame(0x81, `{"groups": {"jobs": ["summary"]}, "xrftoken": "t"}`)); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, w, 0x81, `{"groups_current": ["jobs-summary"], "groups_left": [], "groups_joined": ["jobs-summary"]}`)
}

// A stop of Caddy closes streams like other WebSockets, and does not wait for clients.
func TestConnectAtStop(t *testing.T) {
	s := http2Site(t, "auth none", "edgerelay")
	w, _ := open(t, s.connect(), "/websocket/", `{"accept": true, "user": 1}`)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, w, 0x88, "\x03\xe9the server is going away")
}

// The servers of former configurations end: their streams are closed within Caddy's grace period.
func TestFormerStreamsAreEvicted(t *testing.T) {
	s := http2Site(t, "auth none", "edgerelay")
	conn := s.connect()
	var all []*wstest.Wire
	for range 20 {
		w, _ := open(t, conn, "/websocket/", `{"accept": true, "user": 1}`)
		all = append(all, w)
	}
	s.loadHTTP2("auth none", "edgerelay\nrespond /x 200")
	began := time.Now()
	for _, w := range all {
		wantFrame(t, w, 0x88, "\x03\xf4"+replacedReason)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("all were evicted within %v", took)
	}
}

// Routes, with tokens in the first message or a subprotocol and with a backend, and the paths of the backplane.
func TestConnectRoutes(t *testing.T) {
	b := startBackendSite(t)
	s := http2Site(t, "auth none\nbackplane {\nsecret s3cret\npeers http://127.0.0.1:9\n}",
		strings.Replace(orders, "path /ws/awx/", "route /room/{name}/ {\nmessages backend "+b.URL+
			" {\ngrip {\nkey s3cret\n}\n}\n}\npath /websocket/", 1))
	conn := s.connect()
	valid := jwtOf("7", time.Hour, "shops", `["1", 2]`)

	pending, resp, body, err := conn.Connect("/ws/orders/1/")
	if err != nil || pending == nil {
		t.Fatalf("%+v %q, %v", resp, body, err)
	}
	if err := pending.Write(wstest.MaskedFrame(0x81, valid)); err != nil {
		t.Fatal(err)
	}
	login, resp, body, err := conn.Connect("/ws/orders/1/", "Sec-WebSocket-Protocol: access_token, "+valid)
	if err != nil || login == nil || resp.Header.Get("Sec-WebSocket-Protocol") != "access_token" {
		t.Fatalf("%+v %q, %v", resp, body, err)
	}
	testkit.Eventually(t, "both are in their group", func() error {
		if _, overview := s.get("http://" + s.admin + "/edgerelay/groups"); !strings.Contains(overview, `"user_7","subscribers":2`) {
			return errors.New(overview)
		}
		return nil
	})
	s.emit("user_7", "order.changed", `{"state": "sold"}`)
	wantFrame(t, login, 0x81, `"sold"`)
	wantFrame(t, pending, 0x81, `"sold"`)

	silent, resp, body, err := conn.Connect("/ws/orders/1/")
	if err != nil || silent == nil {
		t.Fatalf("%+v %q, %v", resp, body, err)
	}
	if f, err := silent.Frame(); err != nil || f.First != 0x88 { // after first_message_timeout
		t.Errorf("without a token: %#x %q, %v", f.First, f.Payload, err)
	}

	room, resp := open(t, conn, "/room/a/", "welcome", "Sec-WebSocket-Protocol: chat")
	if resp.Header.Get("Sec-WebSocket-Protocol") != "chat" {
		t.Errorf("the backend's subprotocol is not agreed: %v", resp.Header)
	}
	if err := room.Write(wstest.MaskedFrame(0x81, "echo")); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, room, 0x81, "echo")
	if _, resp, body, err := conn.Connect("/room/a/?deny=1"); err != nil || resp.StatusCode != 403 || body != "not today\n" {
		t.Errorf("denied: %+v %q, %v", resp, body, err)
	}

	for _, path := range []string{"/websocket/relay/", "/websocket/broadcast/"} {
		_, resp, body, err := conn.Connect(path)
		if err != nil || resp.StatusCode != 501 || body != "nodes connect over HTTP/1.1\n" {
			t.Errorf("%s: %+v %q, %v", path, resp, body, err)
		}
	}
}
