package tcptuning

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// options reads the options of a socket.
func options(t *testing.T, conn *net.TCPConn) (
	got struct{ userTimeout, maxRTO, idle, interval, keepAlive, segment int },
) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		for option, to := range map[int]*int{
			tcpUserTimeout: &got.userTimeout, tcpRTOMaxMS: &got.maxRTO, syscall.TCP_KEEPIDLE: &got.idle,
			syscall.TCP_KEEPINTVL: &got.interval, syscall.TCP_MAXSEG: &got.segment,
		} {
			*to, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option)
		}
		got.keepAlive, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// pair returns both ends of a connection over the loopback.
func pair(t *testing.T, dialer net.Dialer) (client, server *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := dialer.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dialed.Close(), accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// wrapper embeds a connection, as the listener wrappers of Caddy do.
type wrapper struct{ net.Conn }

func TestOptionsReachTheSocket(t *testing.T) {
	all := Options{UserTimeout: 20 * time.Second, MaxRTO: time.Second, KeepAlive: 5 * time.Second}
	for _, c := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{
		{"plain", func(c net.Conn) net.Conn { return c }},
		{"TLS", func(c net.Conn) net.Conn { return tls.Server(c, &tls.Config{}) }},
		{"wrappers beneath TLS", func(c net.Conn) net.Conn { return tls.Server(&wrapper{wrapper{c}}, &tls.Config{}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, server := pair(t, net.Dialer{KeepAlive: -1})
			before := options(t, server)
			if !all.Apply(c.wrap(server)) {
				t.Fatal("no socket was found")
			}
			got := options(t, server)
			if got.userTimeout != 20_000 || got.idle != 5 || got.interval != 5 || got.keepAlive != 1 {
				t.Errorf("options: %+v", got)
			}
			if want := 1000; CapsRetransmission() && got.maxRTO != want {
				t.Errorf("longest pause: %d ms, want %d", got.maxRTO, want)
			}
			if got.segment != before.segment {
				t.Errorf("segment: %d bytes, before %d", got.segment, before.segment)
			}
		})
	}
}

// A cap without a user timeout ends connections after a few seconds: the kernel counts attempts.
func TestNoCapWithoutUserTimeout(t *testing.T) {
	_, server := pair(t, net.Dialer{})
	before := options(t, server)
	if !(Options{MaxRTO: time.Second}).Apply(server) {
		t.Fatal("no socket was found")
	}
	if got := options(t, server); got != before {
		t.Errorf("options: %+v, before %+v", got, before)
	}
}

func TestNoSocket(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if (Options{UserTimeout: time.Second}).Apply(one) {
		t.Error("a pipe has a TCP socket")
	}
}

// Segments are bounded for both sides if the dialer sets the bound before it connects.
func TestSegmentsAreBoundedOnBothSides(t *testing.T) {
	client, server := pair(t, net.Dialer{Control: Options{MaxSegment: 1200}.Control})
	for name, conn := range map[string]*net.TCPConn{"client": client, "server": server} {
		if got := options(t, conn); got.segment > 1200 {
			t.Errorf("%s: segments of %d bytes", name, got.segment)
		}
	}
}

// A server that does not answer ends an attempt to connect after the user timeout.
func TestConnectingIsBounded(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	options := Options{UserTimeout: 1500 * time.Millisecond, MaxRTO: time.Second}
	dialer := net.Dialer{Timeout: time.Minute, Control: options.Control}
	for { // until the queue of connections is full: the kernel drops further SYNs
		began := time.Now()
		conn, err := dialer.Dial("tcp", listener.Addr().String())
		if err == nil {
			defer conn.Close()
			continue
		}
		if took := time.Since(began); !errors.Is(err, syscall.ETIMEDOUT) || took > 20*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		return
	}
}
