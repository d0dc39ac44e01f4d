package sse

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// opaque is a wrapper that keeps the head back until the body begins, as the directive encode does.
type opaque struct {
	http.ResponseWriter
	status int
}

func (w *opaque) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *opaque) WriteHeader(status int)      { w.status = status }

// Wrappers do not stay between the relay and the client.
func TestWrappers(t *testing.T) {
	s := newServer(t, "h1", Options{First: []byte("first\n")}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&opaque{ResponseWriter: w}, r)
		})
	})
	c, conn := s.get(t)
	c.want("first")
	conn.Kill()
	s.wantEnd(t)
}

// Over HTTP/2, a client that reads nothing cannot keep its handler: Kill aborts a write that waits for the client.
func TestKillOfABlockedWrite(t *testing.T) {
	s := newServer(t, "h2", Options{}, nil)
	c, conn := s.get(t)
	for range 200 { // more than the client's windows
		conn.Send(frame(strings.Repeat("z", 100_000)), 1<<30)
	}
	testkit.Eventually(t, "a write waits for the client", func() bool {
		st, ok := conn.IO().NetConn().(*stream)
		waiting, _ := conn.Waiting()
		return ok && st.writing.Load() && waiting > 1<<20
	})
	began := time.Now()
	conn.Kill()
	s.wantEnd(t)
	if took := time.Since(began); took > testkit.Patience/2 {
		t.Errorf("the handler returned after %v", took)
	}
	c.leave()
}

// An HTTP/2 client that no longer reads its TCP connection keeps the write of an aborted response.
func TestStuckConnectionIsCut(t *testing.T) {
	cut := make(chan struct{})
	var beneath net.Conn
	s := newServer(t, "h2", Options{Cut: func() { close(cut); _ = beneath.Close() }}, nil)
	tcp, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	_ = tcp.(*net.TCPConn).SetReadBuffer(4096)
	beneath = tcp
	client := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_, _ = io.WriteString(client, http2.ClientPreface)
	framer := http2.NewFramer(client, client)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = framer.WriteWindowUpdate(0, 1<<30)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
	})
	conn := <-s.conns
	for range 200 { // more than the kernel keeps
		conn.Send(frame(strings.Repeat("z", 100_000)), 1<<30)
	}
	testkit.Eventually(t, "a write waits for the connection", func() bool {
		waiting, _ := conn.Waiting()
		st, ok := conn.IO().NetConn().(*stream)
		return ok && st.writing.Load() && waiting > 1<<20
	})
	conn.Kill()
	select {
	case <-cut:
	case <-time.After(testkit.Patience):
		t.Fatal("the connection was not cut")
	}
	s.wantEnd(t)
}
