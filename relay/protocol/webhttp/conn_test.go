package webhttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

func TestEchoAndClose(t *testing.T) {
	s := startSite(t, echo)
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/ws/a%2Fb/?x=1&y", "Cookie", "sessionid=abc", "Origin", "http://site", "User-Agent", "test/1",
		"Authorization", "Token t", "Grip-Sig", "forged", "Meta-User", "forged", "Connection-Id", "forged", "X_Forwarded_For", "6.6.6.6",
		"X-Forwarded-For", "6.6.6.6", "Idempotency-Key", "k")
	send(t, c, "one")
	expect(t, c, "one")
	send(t, c, "")
	expect(t, c, "")
	r := s.last()
	if r.RequestURI != "/ws/a%2Fb/?x=1&y" || r.Method != "POST" || r.Host != strings.TrimPrefix(e.url, "http://") {
		t.Errorf("request %s %s to %s", r.Method, r.RequestURI, r.Host)
	}
	for name, want := range map[string]string{
		"Cookie": "sessionid=abc", "Origin": "http://site", "User-Agent": "test/1", "Authorization": "Token t",
		"Grip-Sig": "", "Meta-User": "", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http",
		"X-Forwarded-Host": r.Host, "Accept": webhttp.ContentType, "Content-Type": webhttp.ContentType,
		"Sec-Websocket-Extensions": "grip", "X_forwarded_for": "", "Idempotency-Key": "", "Sec-Websocket-Key": "",
	} {
		if got := strings.Join(r.Header[name], "|"); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
	if id := r.Header.Get("Connection-Id"); len(id) != 36 || id == "forged" {
		t.Errorf("Connection-Id %q", id)
	}
	if err := c.Close(4001); err != nil {
		t.Error(err)
	}
	want := []string{"OPEN\r\n", "TEXT 3\r\none\r\n", "TEXT 0\r\n\r\n", "CLOSE 2\r\n\x0f\xa1\r\n"}
	testkit.Eventually(t, "the backend sees the close", func() bool { return len(s.bodies()) >= 4 })
	if got := s.bodies(); !slices.Equal(got, want) {
		t.Errorf("requests %q, want %q", got, want)
	}
}

// Messages that arrive during a request go into the next one, in order, and no two requests of a connection overlap.
func TestMessagesAreBatched(t *testing.T) {
	release := make(chan struct{})
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		if strings.HasPrefix(r.body, "TEXT 5\r\nfirst") {
			<-release
		}
		echo(w, r)
	})
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/")
	send(t, c, "first")
	testkit.Eventually(t, "the first message arrives", func() bool { return len(s.bodies()) == 2 })
	var want []string
	for i := range 50 {
		send(t, c, fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
	}
	if err := c.Ping(); err != nil { // the relay has read all messages before
		t.Fatal(err)
	}
	close(release)
	expect(t, c, append([]string{"first"}, want...)...)
	if n := len(s.bodies()); n != 3 {
		t.Errorf("%d requests, want 3: OPEN, the first message, the others", n)
	}
	if s.overlapped() {
		t.Error("two requests of a connection overlapped")
	}
}

// A client whose socket ends without a close frame is announced by DISCONNECT, once, behind its messages.
func TestDisconnect(t *testing.T) {
	s := startSite(t, echo)
	e := startEdge(t, s.URL, nil)
	raw, err := wstest.DialRaw(e.url+"/", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Send("last words"); err != nil {
		t.Fatal(err)
	}
	raw.Close()
	testkit.Eventually(t, "the backend sees the end", func() bool {
		return strings.HasSuffix(strings.Join(s.bodies(), ""), "DISCONNECT\r\n")
	})
	testkit.Eventually(t, "the session ends", func() bool { return e.Stats.Connections.Load() == 0 })
	if all := strings.Join(s.bodies(), ""); all != "OPEN\r\nTEXT a\r\nlast words\r\nDISCONNECT\r\n" {
		t.Errorf("events %q", all)
	}
}

func TestRejectedHandshakes(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *request)
		status int
		body   string
	}{
		"forbidden": {func(w http.ResponseWriter, _ *request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Set-Cookie", "a=b")
			w.Header().Set("Set-Meta-X", "y")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "not you\n")
		}, 403, "not you\n"},
		"a page": {func(w http.ResponseWriter, _ *request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
		}, 200, "<html>"},
		"no events":   {func(http.ResponseWriter, *request) {}, 502, "Bad Gateway\n"},
		"not OPEN":    {func(w http.ResponseWriter, _ *request) { _, _ = io.WriteString(w, "TEXT 1\r\nx\r\n") }, 502, "Bad Gateway\n"},
		"malformed":   {func(w http.ResponseWriter, _ *request) { _, _ = io.WriteString(w, "OPEN") }, 502, "Bad Gateway\n"},
		"too long":    {func(w http.ResponseWriter, _ *request) { _, _ = w.Write(make([]byte, 1_000_001)) }, 502, "Bad Gateway\n"},
		"interrupted": {func(http.ResponseWriter, *request) { panic(http.ErrAbortHandler) }, 502, "Bad Gateway\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, c.answer)
			e := startEdge(t, s.URL, nil)
			_, resp, err := wstest.Dial(t, e.url+"/", http.Header{})
			if err == nil || resp == nil {
				t.Fatalf("error %v, want a rejected handshake", err)
			}
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || string(body) != c.body {
				t.Errorf("answer %d %q, want %d %q", resp.StatusCode, body, c.status, c.body)
			}
			if resp.Header.Get("Set-Meta-X") != "" {
				t.Error("the client sees a header of the protocol")
			}
			if got := strings.Join(s.bodies(), ""); strings.Count(got, "OPEN") != 1 {
				t.Errorf("events %q: OPEN is not repeated", got)
			}
			if name == "interrupted" { // the backend may have carried out the request or not
				testkit.Eventually(t, "the backend is told", func() bool { return slices.Contains(s.bodies(), "DISCONNECT\r\n") })
			}
		})
	}
}

// The client gets the backend's subprotocol and cookies, but not the extension.
func TestHeadersOfTheHandshake(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		w.Header().Set("Sec-WebSocket-Protocol", "b")
		w.Header().Set("Set-Cookie", "a=b")
		echo(w, r)
	})
	e := startEdge(t, s.URL, nil)
	c, resp, err := wstest.Dial(t, e.url+"/", http.Header{"Sec-Websocket-Protocol": {"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "b" || resp.Header.Get("Set-Cookie") != "a=b" || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("subprotocol %q, headers %v", c.Subprotocol(), resp.Header)
	}
}

func TestBackendCloses(t *testing.T) {
	s := startSite(t, opens("", func(w http.ResponseWriter, r *request) {
		if strings.HasPrefix(r.body, "TEXT") {
			_, _ = io.WriteString(w, "TEXT 3\r\nbye\r\nCLOSE 6\r\n\x0f\xa5done\r\nTEXT 1\r\nx\r\n")
		}
	}))
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/")
	send(t, c, "x")
	expect(t, c, "bye")
	expectClose(t, c, 4005)
	testkit.Eventually(t, "the backend sees the client's answer", func() bool {
		return strings.HasSuffix(strings.Join(s.bodies(), ""), "CLOSE 6\r\n\x0f\xa5done\r\n") || strings.HasSuffix(strings.Join(s.bodies(), ""), "CLOSE 2\r\n\x0f\xa5\r\n")
	})
}

// DISCONNECT of the backend ends the socket without a close frame, and nothing is said about it any more.
func TestBackendDisconnects(t *testing.T) {
	s := startSite(t, opens("", func(w http.ResponseWriter, _ *request) { _, _ = io.WriteString(w, "DISCONNECT\r\n") }))
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/")
	send(t, c, "x")
	expectClose(t, c, -1)
	testkit.Eventually(t, "the session ends", func() bool { return e.Stats.Connections.Load() == 0 })
	if n := len(s.bodies()); n != 2 {
		t.Errorf("requests %q, want OPEN and TEXT", s.bodies())
	}
}

// A handshake that the backend has accepted counts until its connection is opened or abandoned: a stop of the node must
// not end before the backend knows of its end.
func TestCloseWaitsForHandshakes(t *testing.T) {
	s := startSite(t, echo)
	e := startEdge(t, s.URL, nil)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	opening, rejected := e.Open(r, webhttp.Client{Address: "127.0.0.1", Scheme: "http"})
	if rejected != nil {
		t.Fatal(rejected.Err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Close(ended); err == nil {
		t.Error("it was closed during a handshake")
	}
	opening.Abandon()
	if err := e.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if last := s.last(); !strings.Contains(last.body, "DISCONNECT") {
		t.Errorf("the backend was told last of %q", last.body)
	}
}
