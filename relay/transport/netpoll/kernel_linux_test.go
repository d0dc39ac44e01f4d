package netpoll

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/tcptuning"
)

// timesOf returns the user timeout and the longest pause between retransmissions of a socket, in milliseconds; the
// latter is 0 if the kernel does not know it.
func timesOf(t testing.TB, conn *net.TCPConn) (userTimeout, maxRTO int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			userTimeout, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 18)
			maxRTO, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 44)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return userTimeout, maxRTO
}

// Both options are set together, or none: pauses that are capped alone would end a connection after a few attempts.
func TestUnackedTimeout(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout time.Duration
		wrap    func(net.Conn) net.Conn
	}{
		{"plain", 40 * time.Second, func(c net.Conn) net.Conn { return c }},
		{"TLS", 40 * time.Second, func(c net.Conn) net.Conn { return tls.Server(c, &tls.Config{}) }},
		{"none", 0, func(c net.Conn) net.Conn { return c }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, r := New(), newRecorder()
			server, _ := tcpPair(t)
			tcp := server.(*net.TCPConn)
			_, maxRTO := timesOf(t, tcp)
			if c.timeout > 0 && tcptuning.CapsRetransmission() {
				maxRTO = 1500
			}
			p.SetUnackedTimeout(c.timeout)
			p.Attach(&r.Conn, c.wrap(server), r)
			got, pause := timesOf(t, tcp)
			if want := int(c.timeout / time.Millisecond); got != want || pause != maxRTO {
				t.Errorf("user timeout %d ms, want %d; longest pause %d ms, want %d", got, want, pause, maxRTO)
			}
		})
	}
}

// BenchmarkSetOptions measures the options of a connection that is accepted.
func BenchmarkSetOptions(b *testing.B) {
	for name, timeout := range map[string]time.Duration{"memory": 0, "memory and times": 40 * time.Second} {
		b.Run(name, func(b *testing.B) {
			server, _ := tcpPair(b)
			b.ReportAllocs()
			for b.Loop() {
				setOptions(server, timeout)
			}
		})
	}
}
