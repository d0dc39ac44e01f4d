package caddymodule

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// loadHTTP3 loads a site with TLS that speaks HTTP/3 as well.
func (s *site) loadHTTP3(lines, directives string) {
	s.t.Helper()
	host := "localhost" + strings.TrimPrefix(s.addr, "127.0.0.1")
	file := strings.NewReplacer(s.addr2(), "https://"+host, "grace_period 1s", "").
		Replace(s.file(lines, "bind 127.0.0.1\ntls internal\n"+directives))
	if err := s.load(file); err != nil {
		s.t.Fatal(err)
	}
}

// dialHTTP3 opens a connection of HTTP/3.
func (s *site) dialHTTP3() *http3.ClientConn {
	s.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{http3.NextProtoH3}}
	var conn *quic.Conn
	testkit.Eventually(s.t, "the site answers over QUIC", func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		conn, err = quic.DialAddr(ctx, s.addr, config, nil)
		return err
	})
	transport := &http3.Transport{}
	s.t.Cleanup(func() {
		_ = conn.CloseWithError(0, "")
		_ = transport.Close()
	})
	return transport.NewClientConn(conn)
}

// connectHTTP3 sends an extended CONNECT. The stream is nil if the status is not 200.
func connectHTTP3(t testing.TB, c *http3.ClientConn, path, protocol string, headers ...string) (*wstest.Wire, *http.Response) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-c.ReceivedSettings():
	case <-ctx.Done():
		t.Fatal("no settings")
	}
	if !c.Settings().EnableExtendedConnect {
		t.Fatal("extended CONNECT is not announced")
	}
	stream, err := c.OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodConnect, "https://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Proto = protocol
	req.Header.Set("Sec-WebSocket-Version", "13")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	_ = stream.SetReadDeadline(time.Now().Add(patience))
	if err := stream.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.ReadResponse()
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, resp
	}
	return wstest.NewWire(http3Stream{stream}, "localhost"), resp
}

// http3Stream is a client's stream as a net.Conn.
type http3Stream struct{ *http3.RequestStream }

func (http3Stream) LocalAddr() net.Addr  { return nil }
func (http3Stream) RemoteAddr() net.Addr { return nil }

// CloseWrite ends the client's direction.
func (s http3Stream) CloseWrite() error { return s.RequestStream.Close() }

// Close resets the stream.
func (s http3Stream) Close() error {
	s.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
	s.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
	return nil
}

func TestWebSocketOverHTTP3(t *testing.T) {
	s := newSite(t)
	s.loadHTTP3("auth none", "edgerelay\nrespond next 418")
	conn := s.dialHTTP3()
	open := func() *wstest.Wire {
		t.Helper()
		w, resp := connectHTTP3(t, conn, "/websocket/", "websocket", "Cookie: csrftoken=t")
		if w == nil {
			t.Fatal(resp.Status)
		}
		wantFrame(t, w, 0x81, `{"accept": true, "user": 1}`)
		return w
	}
	w := open()
	if err := w.Write(wstest.MaskedFrame(0x81, `{"groups": {"jobs": ["summary"]}, "xrftoken": "t"}`)); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, w, 0x81, `{"groups_current": ["jobs-summary"], "groups_left": [], "groups_joined": ["jobs-summary"]}`)
	long := strings.Repeat("e", 100_000) // more than fits into packets and first windows
	for _, data := range []string{`{"n":  1}`, `"` + long + `"`, `{"n":  2}`} {
		if status, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": `+data+`}`); status != 200 {
			t.Fatalf("publish: %d %s", status, body)
		}
		wantFrame(t, w, 0x81, data)
	}
	for _, c := range []struct {
		path, protocol, header string
		status                 int
	}{
		{"/websocket/", "webtransport", "X: y", 501},
		{"/other", "webtransport", "X: y", 418},
		{"/other", "websocket", "X: y", 418},
		{"/websocket/", "websocket", "Sec-WebSocket-Version: 8", 400},
		{"/websocket/", "websocket", "Origin: https://evil.example", 403},
	} {
		if _, resp := connectHTTP3(t, conn, c.path, c.protocol, c.header); resp.StatusCode != c.status {
			t.Errorf("%s %s %s: %s, want %d", c.path, c.protocol, c.header, resp.Status, c.status)
		}
	}
	// Reloads keep the stream, which has left the handler.
	s.loadHTTP3("auth none", "edgerelay\nrespond next 419")
	if err := w.Write(wstest.MaskedFrame(0x89, "p")); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, w, 0x8a, "p")
	if err := w.Write(wstest.MaskedFrame(0x88, "\x03\xe8")); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, w, 0x88, "\x03\xe8")
	if f, err := w.Frame(); err != io.EOF {
		t.Errorf("%#x %q, %v; want the end", f.First, f.Payload, err)
	}
}

// However a stream of HTTP/3 ends, its goroutine does.
func TestHTTP3StreamsLeaveNothing(t *testing.T) {
	s := newSite(t)
	s.loadHTTP3("auth none\nlimits {\nqueue_per_connection 64KiB\nping 1s\nsilence 2s\n}", "edgerelay")
	conn := s.dialHTTP3()
	reading := func() error {
		stacks := make([]byte, 1<<20)
		if n := strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "httpstream"); n > 0 {
			return fmt.Errorf("%d frames of streams in goroutines", n)
		}
		if _, metrics := s.get("http://" + s.admin + "/metrics"); !strings.Contains(metrics, "edgerelay_stream_connections 0") {
			return errors.New(matching(metrics, "edgerelay_stream_connections"))
		}
		return nil
	}
	for name, end := range map[string]func(w *wstest.Wire) error{
		"reset":       func(w *wstest.Wire) error { return w.Close() },
		"end":         func(w *wstest.Wire) error { return w.Conn.(http3Stream).CloseWrite() },
		"a violation": func(w *wstest.Wire) error { return w.Write("\xff\xff") },
		"a window that stays full": func(w *wstest.Wire) error {
			if err := w.Write(wstest.MaskedFrame(0x81, `{"groups": {"jobs": ["summary"]}, "xrftoken": "t"}`)); err != nil {
				return err
			}
			for range 100 { // 10 MB, of which the client reads nothing
				s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": "`+strings.Repeat("e", 100_000)+`"}`)
			}
			return nil
		},
		"a close": func(w *wstest.Wire) error { return w.Write(wstest.MaskedFrame(0x88, "\x03\xe8")) },
	} {
		w, resp := connectHTTP3(t, conn, "/websocket/", "websocket", "Cookie: csrftoken=t")
		if w == nil {
			t.Fatal(resp.Status)
		}
		wantFrame(t, w, 0x81, `{"accept": true, "user": 1}`)
		if reading() == nil {
			t.Errorf("%s: no goroutine reads the open stream", name)
		}
		if err := end(w); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, name+" ends the stream", reading)
	}
	w, _ := connectHTTP3(t, conn, "/websocket/", "websocket")
	wantFrame(t, w, 0x81, `{"accept": true, "user": 1}`)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, w, 0x88, "\x03\xe9the server is going away")
}
