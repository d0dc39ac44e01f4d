package ws_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// server accepts WebSockets, hands each Conn to the test, and echoes messages.
type server struct {
	*httptest.Server
	conns    chan *ws.Conn
	ended    chan struct{}
	messages atomic.Int64
}

// echo sends each message back.
type echo struct {
	*server
	conn *ws.Conn
}

func (e echo) Message(_ bool, message []byte) {
	e.messages.Add(1)
	e.conn.Send(relay.AppendFrame(nil, message), 1<<20)
}

func (e echo) Ended() { e.ended <- struct{}{} }

func newServer(t testing.TB, secure bool) *server { return newServerOn(t, secure, nil) }

// newServerOn wraps the listener.
func newServerOn(t testing.TB, secure bool, wrap func(net.Listener) net.Listener) *server {
	poller := netpoll.New()
	t.Cleanup(poller.Close)
	return newServerWith(t, poller, secure, wrap)
}

func newServerWith(
	t testing.TB, poller *netpoll.Poller, secure bool, wrap func(net.Listener) net.Listener,
) *server {
	s := &server{conns: make(chan *ws.Conn, 16), ended: make(chan struct{}, 2048)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, reason := ws.CheckUpgrade(w, r); status != 0 {
			http.Error(w, reason, status)
			return
		}
		c, err := ws.Accept(w, r, ws.Options{
			Poller: poller, MessageLimit: func() int { return 4096 }, Deflate: true,
		})
		if err != nil {
			t.Error(err)
			return
		}
		s.conns <- c
		c.Attend(echo{s, c})
	})
	s.Server = httptest.NewUnstartedServer(handler)
	if wrap != nil {
		s.Listener = wrap(s.Listener)
	}
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Server.Close)
	return s
}

// client reads the server's frames.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

// handshake is a valid request.
const handshake = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"

// dial connects, with early bytes in the packet of the handshake.
func (s *server) dial(t testing.TB, early ...byte) (*client, *ws.Conn) {
	t.Helper()
	var conn net.Conn
	var err error
	addr := s.Listener.Addr().String()
	if s.TLS != nil {
		conn, err = tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	} else {
		conn, err = net.Dial("tcp", addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * testkit.Patience))
	if _, err := conn.Write(append([]byte(handshake), early...)); err != nil {
		t.Fatal(err)
	}
	c := &client{t, conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	return c, <-s.conns
}

// frame returns a masked frame.
func frame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := []byte{1, 2, 3, 4}
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

func (c *client) send(b ...byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// next reads a frame from the server.
func (c *client) next() (first byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(c.r, head[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch {
	case n&0x80 != 0:
		c.t.Fatal("the server masks")
	case n == 126:
		_, err = io.ReadFull(c.r, head[2:4])
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case n == 127:
		_, err = io.ReadFull(c.r, head[2:10])
		n = binary.BigEndian.Uint64(head[2:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return head[0], payload, err
}

func (c *client) want(first byte, payload string) {
	c.t.Helper()
	f, p, err := c.next()
	if err != nil || f != first || string(p) != payload {
		c.t.Fatalf("got %#x %q, %v; want %#x %q", f, p, err, first, payload)
	}
}

// wantClose reads a close frame, answers it, and expects the end of the connection.
func (c *client) wantClose(code int) {
	c.t.Helper()
	f, p, err := c.next()
	if err != nil || f != 0x88 || len(p) < 2 || int(binary.BigEndian.Uint16(p)) != code {
		c.t.Fatalf("got %#x %q, %v; want a close with %d", f, p, err, code)
	}
	_, _ = c.Write(frame(0x88, string(p[:2])))
	if _, _, err := c.next(); err == nil {
		c.t.Fatal("the connection goes on after the close")
	}
}
