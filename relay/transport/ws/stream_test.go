package ws_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	_ "github.com/edgerelay/edgerelay/internal/testkit/xconnect"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/httpstream"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

type connKey struct{}

// newStreamServer is newServer for WebSockets over HTTP/2 without TLS.
func newStreamServer(t testing.TB) *server {
	poller := netpoll.New()
	t.Cleanup(poller.Close)
	s := &server{conns: make(chan *ws.Conn, 64), ended: make(chan struct{}, 2048)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := httpstream.Options{Open: func(w http.ResponseWriter) (httpstream.Stream, error) {
			return httpstream.NewHTTP2(w, r.Body), http.NewResponseController(w).Flush()
		}, Cut: func() { _ = r.Context().Value(connKey{}).(net.Conn).Close() }}
		httpstream.Serve(w, o, func(w http.ResponseWriter) {
			if status, reason := ws.CheckUpgrade(w, r); status != 0 {
				http.Error(w, reason, status)
				return
			}
			c, err := ws.Accept(w, r, ws.Options{
				Poller: poller, MessageLimit: func() int { return 1 << 20 }, Subprotocols: []string{"a", "b"},
			})
			if err != nil {
				return
			}
			s.conns <- c
			c.Attend(echo{s, c})
		})
	}))
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func dialStreams(t testing.TB, s *server) *wstest.HTTP2 {
	t.Helper()
	c, err := wstest.DialHTTP2(t, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func openStream(t testing.TB, c *wstest.HTTP2, headers ...string) *wstest.Wire {
	t.Helper()
	w, resp, body, err := c.Connect("/", headers...)
	if err != nil || w == nil {
		t.Fatalf("%+v %q, %v", resp, body, err)
	}
	return w
}

// exchange sends a message and expects its echo.
func exchange(t testing.TB, w *wstest.Wire, text string) {
	t.Helper()
	if err := w.Write(wstest.MaskedFrame(0x81, text)); err != nil {
		t.Fatal(err)
	}
	if f, err := w.Frame(); err != nil || f.First != 0x81 || string(f.Payload) != text {
		t.Fatalf("got %#x, %d bytes, %v; want %d bytes", f.First, len(f.Payload), err, len(text))
	}
}

func TestStreamsShareAConnection(t *testing.T) {
	s := newStreamServer(t)
	c := dialStreams(t, s)
	var all []*wstest.Wire
	for range 20 {
		all = append(all, openStream(t, c))
	}
	for i, w := range all {
		exchange(t, w, fmt.Sprint("stream ", i))
		exchange(t, w, strings.Repeat("x", 100_000))
	}
	for i, w := range all {
		if i%2 == 0 {
			_ = w.Write(wstest.MaskedFrame(0x88, "\x03\xe8"))
			if f, err := w.Frame(); err != nil || f.First != 0x88 {
				t.Errorf("%d: closed with %#x %q, %v", i, f.First, f.Payload, err)
			}
			if f, err := w.Frame(); err == nil {
				t.Errorf("%d: %#x %q after the end", i, f.First, f.Payload)
			}
			<-s.ended
		}
	}
	exchange(t, all[1], "the others go on")
}

func TestStreamHandshakes(t *testing.T) {
	s := newStreamServer(t)
	c := dialStreams(t, s)
	for _, h := range []struct {
		name        string
		headers     []string
		status      int
		subprotocol string
	}{
		{"plain", nil, 200, ""},
		{"a key is ignored", []string{"Sec-WebSocket-Key: x"}, 200, ""},
		{"subprotocols", []string{"Sec-WebSocket-Protocol: c, b"}, 200, "b"},
		{"an unknown subprotocol", []string{"Sec-WebSocket-Protocol: c"}, 200, ""},
		{"the protocol in upper case", []string{":protocol: WebSocket"}, 200, ""},
		{"version 8", []string{"Sec-WebSocket-Version: 8"}, 400, ""},
		{"no version", []string{"Sec-WebSocket-Version:"}, 400, ""},
		{"two versions", []string{"Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"}, 400, ""},
	} {
		t.Run(h.name, func(t *testing.T) {
			_, resp, body, err := c.Connect("/", h.headers...)
			if err != nil || resp.StatusCode != h.status || resp.Header.Get("Sec-Websocket-Protocol") != h.subprotocol {
				t.Fatalf("%+v %q, %v", resp, body, err)
			}
			for _, name := range []string{"Sec-Websocket-Accept", "Upgrade", "Connection", "Content-Length"} {
				if v, ok := resp.Header[name]; ok && h.status == 200 {
					t.Errorf("the response has %s: %q", name, v)
				}
			}
			if h.status == 400 && resp.Header.Get("Sec-Websocket-Version") != "13" {
				t.Errorf("the response does not name the version: %v", resp.Header)
			}
		})
	}
}

// opening is held while a stream of a parallel test begins.
var opening sync.Mutex

// Each way in which a stream can end frees what it had.
func TestStreamsLeaveNothing(t *testing.T) {
	s := newStreamServer(t)
	base := runtime.NumGoroutine()
	for name, end := range map[string]func(*wstest.RawHTTP2, *ws.Conn) error{
		"reset":                func(c *wstest.RawHTTP2, _ *ws.Conn) error { return c.WriteRSTStream(1, http2.ErrCodeCancel) },
		"end of the stream":    func(c *wstest.RawHTTP2, _ *ws.Conn) error { return c.WriteData(1, true, nil) },
		"end within a frame":   func(c *wstest.RawHTTP2, _ *ws.Conn) error { return c.WriteData(1, true, []byte("\x81\x85x")) },
		"end of the TCP":       func(c *wstest.RawHTTP2, _ *ws.Conn) error { return c.Conn.Close() },
		"a violation":          func(c *wstest.RawHTTP2, _ *ws.Conn) error { return c.WriteData(1, false, []byte("\xff\xff")) },
		"a close frame":        func(c *wstest.RawHTTP2, _ *ws.Conn) error { return c.WriteData(1, false, []byte("\x88\x80abcd")) },
		"a violation of HTTP2": func(c *wstest.RawHTTP2, _ *ws.Conn) error { return c.WriteData(3, false, []byte("x")) },
		"goaway":               func(c *wstest.RawHTTP2, _ *ws.Conn) error { _ = c.WriteGoAway(0, 0, nil); return c.Conn.Close() },
		"trailers": func(c *wstest.RawHTTP2, _ *ws.Conn) error {
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true})
		},
		"killed": func(_ *wstest.RawHTTP2, conn *ws.Conn) error { conn.Kill(); return nil },
		"killed while a write waits": func(_ *wstest.RawHTTP2, conn *ws.Conn) error {
			conn.Send(relay.AppendFrame(nil, make([]byte, 1<<20)), 0)
			conn.Kill()
			return nil
		},
		"a slow consumer": func(_ *wstest.RawHTTP2, conn *ws.Conn) error {
			for conn.SendAnswer(relay.AppendFrame(nil, make([]byte, 1<<17)), 1<<20) {
			}
			return nil
		},
		"closed without an answer": func(_ *wstest.RawHTTP2, conn *ws.Conn) error { conn.Close(1012, "restart"); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := wstest.DialRawHTTP2(t, s.URL)
			if err != nil {
				t.Fatal(err)
			}
			// Streams begin one after another, so that each test has its own Conn.
			opening.Lock()
			err = c.Connect(1, "/")
			if err == nil {
				err = c.AwaitStatus(1, "200")
			}
			conn := <-s.conns
			opening.Unlock()
			if err == nil {
				err = end(c, conn)
			}
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = c.AwaitEnd(1) }() // or the connection's
			select {
			case <-s.ended:
			case <-time.After(20 * time.Second):
				t.Error("the stream goes on")
			}
			// The late calls of timers find an ended stream.
			conn.Kill()
			if conn.Send([]byte("\x81\x01x"), 0) || conn.Ping() {
				t.Error("an ended stream takes messages")
			}
			_ = c.Conn.Close()
		})
	}
	t.Cleanup(func() {
		testkit.Eventually(t, "all goroutines have ended", func() error {
			if n := runtime.NumGoroutine(); n > base {
				stacks := make([]byte, 1<<16)
				return fmt.Errorf("%d, were %d: %s", n, base, stacks[:runtime.Stack(stacks, true)])
			}
			return nil
		})
	})
}

// A client that leaves the bytes of a TCP connection in the kernel cannot keep the server's goroutines.
func TestStuckConnectionIsCut(t *testing.T) {
	t.Parallel()
	s := newStreamServer(t)
	c, err := wstest.DialRawHTTP2(t, s.URL, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	if err == nil {
		err = c.WriteWindowUpdate(0, 1<<30)
	}
	if err == nil {
		err = c.Connect(1, "/")
	}
	if err != nil {
		t.Fatal(err)
	}
	conn := <-s.conns
	for conn.SendAnswer(relay.AppendFrame(nil, make([]byte, 1<<17)), 8<<20) {
	}
	<-s.ended // the session ends in any case
	testkit.Eventually(t, "the connection is cut", func() error {
		if err := c.WritePing(false, [8]byte{}); err != nil {
			return nil
		}
		return errors.New("the server still reads")
	})
}

// A client that never opens the window of its stream is disconnected, and its other streams go on.
func TestFullWindow(t *testing.T) {
	t.Parallel()
	s := newStreamServer(t)
	c, err := wstest.DialRawHTTP2(t, s.URL, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	if err == nil {
		err = errors.Join(c.Connect(1, "/"), c.AwaitStatus(1, "200"))
	}
	if err != nil {
		t.Fatal(err)
	}
	full := <-s.conns
	if err := errors.Join(c.Connect(3, "/"), c.AwaitStatus(3, "200")); err != nil {
		t.Fatal(err)
	}
	other := <-s.conns
	for full.SendAnswer(relay.AppendFrame(nil, make([]byte, 50)), 1000) {
	}
	if _, slow := full.Waiting(); !slow {
		t.Error("the client does not count as slow")
	}
	other.Send([]byte("\x81\x02ok"), 0)
	err = c.Await("the other stream's frame", func(f http2.Frame) bool {
		d, ok := f.(*http2.DataFrame)
		return ok && d.StreamID == 3 && string(d.Data()) == "\x81\x02ok"
	})
	if err != nil {
		t.Fatal(err)
	}
	if reset, err := c.AwaitEnd(1); err != nil || !reset {
		t.Errorf("the full stream: reset %v, %v", reset, err)
	}
	if err := c.WriteData(3, false, []byte("\x89\x80abcd")); err != nil {
		t.Fatal(err)
	}
	err = c.Await("a pong", func(f http2.Frame) bool {
		d, ok := f.(*http2.DataFrame)
		return ok && d.StreamID == 3 && string(d.Data()) == "\x8a\x00"
	})
	if err != nil {
		t.Error(err)
	}
}
