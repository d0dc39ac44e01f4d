package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// upgradeWatch is a handler that calls a function right before a handshake's response is written. An error
// of the function takes the place of the response.
type upgradeWatch struct{}

// onUpgrade is the function of the handlers, nil for none.
var onUpgrade atomic.Pointer[func() error]

func init() {
	caddy.RegisterModule(upgradeWatch{})
	httpcaddyfile.RegisterHandlerDirective("test_upgrade",
		func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return upgradeWatch{}, nil })
}

func (upgradeWatch) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_upgrade", New: func() caddy.Module { return upgradeWatch{} }}
}

func (upgradeWatch) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(watchedWriter{w}, r)
}

// watchedWriter calls the function when the connection is taken over. It has no Unwrap, which would pass it by.
type watchedWriter struct{ http.ResponseWriter }

func (w watchedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if f := onUpgrade.Load(); f != nil {
		if err := (*f)(); err != nil {
			return nil, nil, err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// answering returns a site that answers OPEN with messages for the client, and then an event.
func answering(t *testing.T, last string, messages ...string) *httptest.Server {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", webhttp.ContentType)
		w.Header().Set("Sec-WebSocket-Extensions", `grip; message-prefix=""`)
		if bytes.HasPrefix(body, []byte("OPEN")) {
			_, _ = io.WriteString(w, "OPEN\r\n")
			for _, m := range messages {
				_, _ = fmt.Fprintf(w, "TEXT %x\r\n%s\r\n", len(m), m)
			}
			_, _ = io.WriteString(w, last)
		}
	}))
	t.Cleanup(site.Close)
	return site
}

// A client gets the events from the moment at which the handshake is answered, behind the messages of the answer to
// OPEN.
func TestBackendClientHearsEventsFromTheHandshakeOn(t *testing.T) {
	s := newSite(t)
	b := answering(t, "", `c:{"type": "subscribe", "channel": "room"}`, "welcome")
	s.mustLoad("auth none", "route {\ntest_upgrade\nedgerelay {\nroute /ws/ {\nmessages backend "+b.URL+"\n}\n}\n}")
	hook := func() error {
		(&backendSite{}).publish(s, "early")
		return nil
	}
	onUpgrade.Store(&hook)
	defer onUpgrade.Store(nil)
	c := &routeClient{s, s.dial("/ws/", nil)}
	c.next("welcome")
	c.next("early")
}

// A handshake that fails after the backend has accepted it leaves no session: the only connection can be had again, and
// the backend is told.
func TestBackendIsToldOfAFailedHandshake(t *testing.T) {
	s := newSite(t)
	told := make(chan string, 4)
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- string(body)
		w.Header().Set("Content-Type", webhttp.ContentType)
		_, _ = io.WriteString(w, "OPEN\r\n")
	}))
	t.Cleanup(b.Close)
	s.mustLoad("auth none\nlimits {\nconnections 1\n}",
		"route {\ntest_upgrade\nedgerelay {\nroute /ws/ {\nmessages backend "+b.URL+"\n}\n}\n}")
	hook := func() error { return http.ErrNotSupported }
	onUpgrade.Store(&hook)
	defer onUpgrade.Store(nil)
	for range 2 {
		_, resp, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/ws/", nil)
		if err == nil || resp == nil || resp.StatusCode != http.StatusNotImplemented {
			t.Fatalf("the handshake: %v, %v", resp, err)
		}
		for _, want := range []string{"OPEN\r\n", "DISCONNECT\r\n"} {
			select {
			case got := <-told:
				if got != want {
					t.Errorf("the backend got %q, want %q", got, want)
				}
			case <-time.After(patience):
				t.Fatalf("the backend did not get %q", want)
			}
		}
	}
}

// An answer to OPEN may be longer than a client's queue, and end with CLOSE.
func TestLongAnswerToOpen(t *testing.T) {
	s := newSite(t)
	var messages []string
	for n := range 9 {
		messages = append(messages, fmt.Sprint(n, strings.Repeat("x", 100_000)))
	}
	b := answering(t, "CLOSE 6\r\n\x0f\xa1done\r\n", messages...)
	s.mustLoad("auth none\nlimits {\nqueue_per_connection 128KiB\n}",
		"edgerelay {\nroute /ws/ {\nmessages backend "+b.URL+"\n}\n}")
	c, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/ws/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for n, want := range messages {
		if _, got, err := c.Read(ctx); err != nil || string(got) != want {
			t.Fatalf("message %d: %.20q, %v", n, got, err)
		}
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != 4001 {
		t.Errorf("the end is %v, want code 4001", err)
	}
}
