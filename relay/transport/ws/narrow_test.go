//go:build linux

package ws_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// narrow is a listener whose connections have hardly any room for what is sent, as against a client with a tiny window.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	conn, err := n.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn, conn.(*net.TCPConn).SetWriteBuffer(1)
}

// A client that takes nothing holds nobody up, whatever the kernel has room for: sends, pings and its own end return at once, and when
// it reads again it gets all of it, whole.
func TestNoRoom(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			s := newServerOn(t, secure, func(ln net.Listener) net.Listener { return narrow{ln} })
			c, conn := s.dialNarrow(t)
			want := []string{}
			prompt := func(what string, do func()) {
				t.Helper()
				done := make(chan struct{})
				go func() { do(); close(done) }()
				select {
				case <-done:
				case <-time.After(relaytest.Patience):
					t.Fatal(what, "waits for the client")
				}
			}
			for i := range 40 {
				want = append(want, fmt.Sprintf("%d %s", i, strings.Repeat("x", 400*i)))
				prompt("a send", func() { conn.Send(relay.AppendFrame(nil, []byte(want[i])), 1<<20) })
				prompt("a ping", func() { conn.Ping() })
			}
			if n, slow := conn.Waiting(); n < 100_000 || n > 400_000 || slow {
				t.Errorf("%d bytes wait, slow %v", n, slow)
			}
			if conn.Ping() {
				t.Error("a client with enough to read is pinged")
			}
			for i := 0; i < len(want); {
				first, p, err := c.next()
				switch {
				case err != nil:
					t.Fatal(i, err)
				case first == 0x89:
				case first != 0x81 || string(p) != want[i]:
					t.Fatalf("message %d is %x %.20q", i, first, p)
				default:
					i++
				}
			}
			prompt("a send", func() { conn.Send(relay.AppendFrame(nil, make([]byte, 15000)), 1<<20) })
			prompt("the end", conn.Kill)
			s.wantEnd(t, "after Kill")
		})
	}
}

// dialNarrow connects with a window as small as can be.
func (s *server) dialNarrow(t *testing.T) (*client, relay.Socket) {
	d := &net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1)
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 300)
		})
	}}
	conn, err := d.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if s.TLS != nil {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	_ = conn.SetDeadline(time.Now().Add(4 * relaytest.Patience))
	return s.shake(t, conn)
}

// shake shakes hands on a connection.
func (s *server) shake(t *testing.T, conn net.Conn) (*client, relay.Socket) {
	if _, err := conn.Write([]byte(shake)); err != nil {
		t.Fatal(err)
	}
	c := &client{t, conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	return c, <-s.conns
}

// together holds what is written until it is sent in one piece.
type together struct {
	net.Conn
	hold bool
	b    bytes.Buffer
}

func (c *together) Write(b []byte) (int, error) {
	if c.hold {
		return c.b.Write(b)
	}
	return c.Conn.Write(b)
}

// A TLS client's last words and its goodbye come in one piece, and the TCP connection stays open.
func TestGoodbyeBehindLastWords(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := newServer(t, true)
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			out := &together{Conn: conn}
			secure := tls.Client(out, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
			s.shake(t, secure)
			out.hold = true
			if _, err := secure.Write(frame(0x81, "bye")); err != nil {
				t.Fatal(err)
			}
			if err := secure.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetWriteDeadline(time.Time{}) // CloseWrite has set one
			if _, err := conn.Write(out.b.Bytes()); err != nil {
				t.Fatal(err)
			}
			s.wantEnd(t, "after close_notify")
			if n := s.heard.Load(); n != 1 {
				t.Errorf("%d messages are heard", n)
			}
		})
	}
}

// A read ends at an urgent byte, though more has come.
func TestUrgentByte(t *testing.T) {
	s := newServer(t, false)
	c, _ := s.dial(t)
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		var failed error
		if err := raw.Write(func(fd uintptr) bool { // corked, so that all is one segment
			cork := func(on int) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, on) }
			cork(1)
			if failed = syscall.Sendto(int(fd), append(frame(0x81, fmt.Sprint("one ", i)), '!'), syscall.MSG_OOB|syscall.MSG_MORE, nil); failed == nil {
				failed = syscall.Sendto(int(fd), frame(0x81, fmt.Sprint("two ", i)), syscall.MSG_MORE, nil)
			}
			cork(0)
			return true
		}); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		c.want(0x81, fmt.Sprint("one ", i))
		c.want(0x81, fmt.Sprint("two ", i))
	}
}
