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

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// narrow is a listener whose connections have tiny send buffers.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	conn, err := n.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn, conn.(*net.TCPConn).SetWriteBuffer(1)
}

// A client that reads nothing blocks no caller, however small the kernel's buffers are: Send, Ping and Kill return at
// once. A client that reads again gets every frame.
func TestFullSocketBlocksNoCaller(t *testing.T) {
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
				case <-time.After(testkit.Patience):
					t.Fatal(what, "blocks")
				}
			}
			for i := range 40 {
				want = append(want, fmt.Sprintf("%d %s", i, strings.Repeat("x", 400*i)))
				prompt("a send", func() { conn.Send(relay.AppendFrame(nil, []byte(want[i])), 1<<20) })
				prompt("a ping", func() { conn.Ping() })
			}
			if n, slow := conn.Waiting(); n < 100_000 || n > 400_000 || slow {
				t.Errorf("%d bytes are queued, slow %v", n, slow)
			}
			if conn.Ping() {
				t.Error("a client with queued bytes is pinged")
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

// dialNarrow connects with the smallest window.
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
	_ = conn.SetDeadline(time.Now().Add(4 * testkit.Patience))
	return s.handshake(t, conn)
}

// handshake upgrades a connection.
func (s *server) handshake(t *testing.T, conn net.Conn) (*client, relay.Socket) {
	if _, err := conn.Write([]byte(handshake)); err != nil {
		t.Fatal(err)
	}
	c := &client{t, conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	return c, <-s.conns
}

// gatherer collects writes, to be sent in one piece.
type gatherer struct {
	net.Conn
	hold bool
	b    bytes.Buffer
}

func (c *gatherer) Write(b []byte) (int, error) {
	if c.hold {
		return c.b.Write(b)
	}
	return c.Conn.Write(b)
}

// A TLS client's last message and close_notify arrive in one piece, and the TCP connection stays open.
func TestCloseNotifyAfterMessage(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := newServer(t, true)
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			out := &gatherer{Conn: conn}
			secure := tls.Client(out, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
			s.handshake(t, secure)
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
			if n := s.messages.Load(); n != 1 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

// A read ends at an urgent byte, although more bytes have arrived.
func TestUrgentByte(t *testing.T) {
	s := newServer(t, false)
	c, _ := s.dial(t)
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		var failed error
		if err := raw.Write(func(fd uintptr) bool { // corked: a single segment
			cork := func(on int) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, on) }
			cork(1)
			first := append(frame(0x81, fmt.Sprint("one ", i)), '!')
			if failed = syscall.Sendto(int(fd), first, syscall.MSG_OOB|syscall.MSG_MORE, nil); failed == nil {
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
