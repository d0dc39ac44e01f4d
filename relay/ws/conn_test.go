package ws_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/relaytest"
	"github.com/edgerelay/edgerelay/relay/ws"
)

// server accepts websockets and hands them to the test; messages are echoed.
type server struct {
	*httptest.Server
	conns chan *ws.Conn
	ended chan struct{}
	heard atomic.Int64 // messages
}

// echo answers each message with itself.
type echo struct {
	*server
	conn *ws.Conn
}

func (e echo) Message(_ bool, message []byte) {
	e.heard.Add(1)
	e.conn.Send(relay.AppendFrame(nil, message), 1<<20)
}

func (e echo) Ended() { e.ended <- struct{}{} }

func newServer(t testing.TB, secure bool) *server { return newServerOn(t, secure, nil) }

// newServerOn has the connections of its listener wrapped.
func newServerOn(t testing.TB, secure bool, wrap func(net.Listener) net.Listener) *server {
	s := &server{conns: make(chan *ws.Conn, 16), ended: make(chan struct{}, 2048)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, reason := ws.CheckUpgrade(w, r); status != 0 {
			http.Error(w, reason, status)
			return
		}
		c, err := ws.Accept(w, r, func() int { return 4096 }, nil)
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

// client is the other end, frame by frame.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

// shake is a handshake.
const shake = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"

// dial shakes hands and sends early in the same packet.
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
	_ = conn.SetDeadline(time.Now().Add(2 * relaytest.Patience))
	if _, err := conn.Write(append([]byte(shake), early...)); err != nil {
		t.Fatal(err)
	}
	c := &client{t, conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	return c, <-s.conns
}

// frame is a masked frame.
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

// next reads a frame of the server's.
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

// TestConformance goes through RFC 6455 as the Autobahn suite's categories do.
func TestConformance(t *testing.T) {
	const text, binaryFrame, cont, fin, ping, pong, closing = 0x1, 0x2, 0x0, 0x80, 0x89, 0x8a, 0x88
	long := strings.Repeat("x", 4000)
	for _, c := range []struct {
		name string
		send [][]byte
		want func(*client)
	}{
		{"text", [][]byte{frame(fin|text, "hello")}, func(c *client) { c.want(0x81, "hello") }},
		{"empty text", [][]byte{frame(fin|text, "")}, func(c *client) { c.want(0x81, "") }},
		{"length 125, 126, 127", [][]byte{frame(fin|text, long[:125]), frame(fin|text, long[:126]), frame(fin|text, long[:127])}, func(c *client) {
			c.want(0x81, long[:125])
			c.want(0x81, long[:126])
			c.want(0x81, long[:127])
		}},
		{"16-bit length", [][]byte{frame(fin|text, long)}, func(c *client) { c.want(0x81, long) }},
		{"binary is read", [][]byte{frame(fin|binaryFrame, "b\xff")}, func(c *client) { c.want(0x81, "b\xff") }},
		{"fragments", [][]byte{frame(text, "one "), frame(cont, "two "), frame(fin|cont, "three")}, func(c *client) { c.want(0x81, "one two three") }},
		{"a ping between fragments", [][]byte{frame(text, "one "), frame(ping, "p"), frame(fin|cont, "two")}, func(c *client) { c.want(pong, "p"); c.want(0x81, "one two") }},
		{"a character split over fragments", [][]byte{frame(text, "\xc3"), frame(fin|cont, "\xa9")}, func(c *client) { c.want(0x81, "é") }},
		{"ping with 125 bytes", [][]byte{frame(ping, long[:125])}, func(c *client) { c.want(pong, long[:125]) }},
		{"empty ping", [][]byte{frame(ping, "")}, func(c *client) { c.want(pong, "") }},
		{"unasked pong", [][]byte{frame(pong, "?"), frame(fin|text, "on")}, func(c *client) { c.want(0x81, "on") }},
		{"ping too long", [][]byte{frame(ping, long[:126])}, func(c *client) { c.wantClose(1002) }},
		{"fragmented ping", [][]byte{frame(0x9, "p")}, func(c *client) { c.wantClose(1002) }},
		{"reserved bits", [][]byte{frame(fin|0x40|text, "x")}, func(c *client) { c.wantClose(1002) }},
		{"reserved opcode", [][]byte{frame(fin|0x3, "x")}, func(c *client) { c.wantClose(1002) }},
		{"reserved control opcode", [][]byte{frame(fin|0xb, "x")}, func(c *client) { c.wantClose(1002) }},
		{"continuation of nothing", [][]byte{frame(fin|cont, "x")}, func(c *client) { c.wantClose(1002) }},
		{"text inside fragments", [][]byte{frame(text, "x"), frame(fin|text, "y")}, func(c *client) { c.wantClose(1002) }},
		{"not masked", [][]byte{{0x81, 1, 'x'}}, func(c *client) { c.wantClose(1002) }},
		{"not UTF-8", [][]byte{frame(fin|text, "\xff\xfe")}, func(c *client) { c.wantClose(1007) }},
		{"too long", [][]byte{frame(fin|text, long+long)}, func(c *client) { c.wantClose(1009) }},
		{"too long in fragments", [][]byte{frame(text, long), frame(cont, long), frame(fin|cont, long)}, func(c *client) { c.wantClose(1009) }},
		{"a length below zero", [][]byte{{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 'x'}}, func(c *client) { c.wantClose(1002) }},
		{"close 1000", [][]byte{frame(closing, "\x03\xe8bye")}, func(c *client) { c.wantClose(1000) }},
		{"close 4999", [][]byte{frame(closing, "\x13\x87")}, func(c *client) { c.wantClose(4999) }},
		{"close without a code", [][]byte{frame(closing, "")}, func(c *client) { c.want(0x88, "") }},
		{"close with half a code", [][]byte{frame(closing, "\x03")}, func(c *client) { c.wantClose(1002) }},
		{"close with a forbidden code", [][]byte{frame(closing, "\x03\xee")}, func(c *client) { c.wantClose(1002) }},
		{"close with an undefined code", [][]byte{frame(closing, "\x00\x01")}, func(c *client) { c.wantClose(1002) }},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, " tls=", secure), func(t *testing.T) {
				t.Parallel()
				s := newServer(t, secure)
				client, _ := s.dial(t)
				client.t = t
				for _, b := range c.send {
					client.send(b...)
				}
				c.want(client)
				_ = client.Close()
				select {
				case <-s.ended:
				case <-time.After(relaytest.Patience):
					t.Error("the server's end goes on")
				}
			})
		}
	}
}

func TestFramesWithTheHandshake(t *testing.T) {
	s := newServer(t, false)
	c, _ := s.dial(t, append(frame(0x81, "early"), frame(0x81, strings.Repeat("y", 1000))...)...)
	c.want(0x81, "early")
	c.want(0x81, strings.Repeat("y", 1000))
}

func TestHandshakesRefused(t *testing.T) {
	s := newServer(t, false)
	for _, c := range []struct {
		name, method string
		headers      map[string]string
		status       int
		header       string
	}{
		{"POST", "POST", nil, 405, "Allow"},
		{"no version", "GET", map[string]string{"Sec-WebSocket-Version": ""}, 426, "Sec-WebSocket-Version"},
		{"version 8", "GET", map[string]string{"Sec-WebSocket-Version": "8"}, 426, "Sec-WebSocket-Version"},
		{"no key", "GET", map[string]string{"Sec-WebSocket-Key": ""}, 400, ""},
		{"short key", "GET", map[string]string{"Sec-WebSocket-Key": "AAAA"}, 400, ""},
		{"no upgrade in Connection", "GET", map[string]string{"Connection": "close"}, 400, ""},
	} {
		r, _ := http.NewRequest(c.method, s.URL, nil)
		for k, v := range map[string]string{
			"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
		} {
			r.Header.Set(k, v)
		}
		for k, v := range c.headers {
			r.Header.Del(k)
			if v != "" {
				r.Header.Set(k, v)
			}
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || c.header != "" && resp.Header.Get(c.header) == "" {
			t.Errorf("%s: %d %v, want %d and %s", c.name, resp.StatusCode, resp.Header, c.status, c.header)
		}
	}
}

// TestSlowReader lets a client stop reading: it is closed with 1008, and all that it got are whole frames in order.
func TestSlowReader(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			s := newServer(t, secure)
			c, conn := s.dial(t)
			const limit = 256 << 10
			sent := 0
			for {
				var frames []byte
				for i := range 20 {
					frames = relay.AppendFrame(frames, fmt.Appendf(nil, "%d %s", sent+i, strings.Repeat("z", 500)))
				}
				if _, slow := conn.Waiting(); slow {
					t.Fatal("slow before the limit is reached")
				}
				if !conn.Send(frames, limit) {
					break
				}
				if sent += 20; sent > 1_000_000 {
					t.Fatal("the queue has no end")
				}
			}
			if conn.Send(relay.AppendFrame(nil, []byte("x")), limit) {
				t.Error("a closing connection takes more")
			}
			if waiting, slow := conn.Waiting(); waiting == 0 || !slow {
				t.Errorf("%d bytes wait, slow %v; want some, and slow", waiting, slow)
			}
			got := 0
			for {
				first, p, err := c.next()
				if err != nil {
					t.Fatalf("after %d frames: %v", got, err)
				}
				if first == 0x88 {
					if code := binary.BigEndian.Uint16(p); code != relay.ClosePolicy {
						t.Errorf("closed with %d", code)
					}
					break
				}
				if !bytes.HasPrefix(p, fmt.Appendf(nil, "%d ", got)) {
					t.Fatalf("frame %d begins with %.10q", got, p)
				}
				got++
			}
			if got == 0 || got > sent {
				t.Errorf("got %d of %d frames", got, sent)
			}
		})
	}
}

// TestPausingReader reads again before the limit is reached: nothing is lost, and later writes are direct again.
func TestPausingReader(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			s := newServer(t, secure)
			c, conn := s.dial(t)
			n := 0
			for range 3 {
				start := n
				for range 400 { // about 8 MiB, more than the kernel takes
					frames := relay.AppendFrame(nil, fmt.Appendf(nil, "%d ", n))
					frames = relay.AppendFrame(frames, bytes.Repeat([]byte("z"), 20_000))
					if !conn.Send(frames, 1<<30) {
						t.Fatal("refused")
					}
					n++
				}
				for i := start; i < n; i++ {
					c.want(0x81, fmt.Sprintf("%d ", i))
					if _, p, err := c.next(); err != nil || len(p) != 20_000 {
						t.Fatal(len(p), err)
					}
				}
			}
			conn.Close(relay.CloseGoingAway, "bye")
			c.wantClose(relay.CloseGoingAway)
		})
	}
}

func TestCloseWithoutAnAnswer(t *testing.T) {
	s := newServer(t, false)
	c, conn := s.dial(t)
	conn.Close(relay.CloseGoingAway, "bye")
	if f, _, err := c.next(); f != 0x88 || err != nil {
		t.Fatal(f, err)
	}
	began := time.Now()
	if _, err := c.r.ReadByte(); err == nil || time.Since(began) > 8*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	<-s.ended
}

// TestPingFlood pings without reading the answers: the queue has an end.
func TestPingFlood(t *testing.T) {
	s := newServer(t, false)
	c, _ := s.dial(t)
	flood := bytes.Repeat(frame(0x89, strings.Repeat("p", 125)), 1000)
	_ = c.SetWriteDeadline(time.Now().Add(relaytest.Patience))
	for range 2000 { // 250 MB, if the server took it all
		if _, err := c.Write(flood); err != nil {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, c.r) }()
	select {
	case <-s.ended:
	case <-time.After(60 * time.Second):
		t.Error("the connection goes on")
	}
}

func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		origins, origin, host string
		want                  bool
	}{
		{"", "", "awx.example.com", true},
		{"", "https://awx.example.com", "awx.example.com", true},
		{"", "https://AWX.example.com", "awx.example.com", true},
		{"", "https://awx.example.com", "awx.example.com:443", true},
		{"", "http://awx.example.com:80", "awx.example.com", true},
		{"", "https://awx.example.com:8443", "awx.example.com", false},
		{"", "https://evil.example", "awx.example.com", false},
		{"", "null", "awx.example.com", false},
		{"", "https://awx.example.com.evil.example", "awx.example.com", false},
		{"*", "https://evil.example", "awx.example.com", true},
		{"*", "null", "awx.example.com", true},
		{"https://ui.example.com", "https://ui.example.com", "awx.example.com", true},
		{"https://ui.example.com", "http://ui.example.com", "awx.example.com", false},
		{"ui.example.com", "http://ui.example.com", "awx.example.com", true},
		{"https://*.example.com", "https://a.b.example.com", "x", true},
		{"https://*.example.com", "https://example.com", "x", false},
		{"https://*.example.com", "https://evilexample.com", "x", false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if got := ws.Origins(strings.Fields(c.origins)).Allow(r); got != c.want {
			t.Errorf("%q with %q at %q: %v", c.origins, c.origin, c.host, got)
		}
	}
}
