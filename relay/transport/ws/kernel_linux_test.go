//go:build !386

package ws_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/edgerelay/edgerelay/relay"
)

// tap hands out the server's TCP connections.
type tap struct {
	net.Listener
	conns chan *net.TCPConn
}

func (l tap) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.conns <- c.(*net.TCPConn)
	}
	return c, err
}

// kernelMemory returns the kernel's memory for a socket in bytes, with overhead.
func kernelMemory(t *testing.T, c *net.TCPConn) int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	const soMemInfo = 55 // SO_MEMINFO
	var info [9]uint32   // of linux/sock_diag.h
	size := uint32(unsafe.Sizeof(info))
	err = raw.Control(func(fd uintptr) {
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.SOL_SOCKET, soMemInfo,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			t.Fatal(errno)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	const rmemAlloc, fwdAlloc, wmemQueued = 0, 4, 5
	return int(info[rmemAlloc] + info[fwdAlloc] + info[wmemQueued])
}

// A client that never reads costs at most 1.5 MiB of heap and kernel memory, for events of any size, and nothing after
// an abort.
func TestClientsThatNeverReadCostLittle(t *testing.T) {
	const clients, limit = 20, 1 << 20
	for _, c := range []struct {
		name   string
		secure bool
		piece  int
	}{{"events of 20 B", false, 20}, {"events of 300 B", false, 300}, {
		"events of 300 B, TLS", true,
		300,
	}, {"16 KiB at once", false, 16 << 10}} {
		t.Run(c.name, func(t *testing.T) {
			taps := make(chan *net.TCPConn, clients)
			s := newServerOn(t, c.secure, func(l net.Listener) net.Listener { return tap{l, taps} })
			go func() {
				for range clients {
					<-s.ended
				}
			}()
			var sockets [clients]relay.Socket
			var kernel [clients]*net.TCPConn
			for i := range sockets {
				client, socket := s.dial(t)
				if tcp, ok := client.Conn.(*net.TCPConn); ok {
					_ = tcp.SetReadBuffer(16 << 10) // the client is in this process, too
				}
				sockets[i], kernel[i] = socket, <-taps
			}
			before := heapInUse()
			frames := relay.AppendFrame(nil, make([]byte, c.piece))
			for _, socket := range sockets { // until another frame would close the connection
				for waiting := 0; waiting+len(frames) <= limit; waiting, _ = socket.Waiting() {
					socket.SendCopy(frames, limit)
				}
			}
			held, most := 0, 0
			for _, conn := range kernel {
				n := kernelMemory(t, conn)
				held += n
				most = max(most, n)
			}
			heap := int(heapInUse() - before)
			t.Logf("%d KiB of the heap and %d KiB of the kernel's memory for each client, at most %d",
				heap/clients>>10, held/clients>>10, most>>10)
			if each := (heap + held) / clients; each > 3<<19 {
				t.Errorf("a client costs %d KiB, want at most 1,536", each>>10)
			}
			for _, socket := range sockets {
				socket.Kill()
			}
			if n := orphans(t, s.Listener.Addr().(*net.TCPAddr).Port); n > 0 {
				t.Errorf("the kernel keeps %d sockets that are closed", n)
			}
		})
	}
}

// orphans counts the sockets at a port that the process has closed and the kernel still holds.
func orphans(t *testing.T, port int) (n int) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
			continue
		}
		switch fields[3] {
		case "04", "09", "0B": // FIN_WAIT1, LAST_ACK, CLOSING: bytes are left to send
			n++
		}
	}
	return n
}
