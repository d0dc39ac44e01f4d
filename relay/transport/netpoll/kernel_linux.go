package netpoll

import (
	"net"
	"syscall"
	"time"
	"unsafe"

	"github.com/edgerelay/edgerelay/internal/tcptuning"
)

// The kernel has two buffers for each socket. By default both grow to some megabytes while data moves, and stay as
// large for a client that reads nothing. So unsent bytes are limited. Bytes in flight are not limited: a fast link over
// a long distance needs many, and a client that does not read still acknowledges them, into the client's kernel.
const (
	// maxUnsent is how many unsent bytes the kernel may hold for a client. More waits in the owner's queue.
	maxUnsent = 128 << 10
	// receiveBuffer is the buffer for bytes from a client. The kernel doubles the value. Clients' messages are short.
	receiveBuffer = 64 << 10

	tcpNotSentLowat = 25     // TCP_NOTSENT_LOWAT
	ioctlNotSent    = 0x894b // SIOCOUTQNSD
)

// limitKernelBuffers limits the kernel's memory for a client. A Unix socket has such a limit already:
// net.core.wmem_default, 208 KiB.
// See docs/decisions/transport.md#why-does-the-kernel-hold-at-most-128-kib-of-unsent-bytes-per-client
func limitKernelBuffers(conn net.Conn) {
	withTCP(conn, func(fd int) {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsent)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
	})
}

// limitUnsent is called before a connection is closed. Bytes that the client does not read would stay in the kernel for
// minutes, with a socket that no process holds. So the kernel discards such bytes after timeout, at once for 0.
func limitUnsent(conn net.Conn, timeout time.Duration) {
	withTCP(conn, func(fd int) {
		var unsent int32
		_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), ioctlNotSent,
			uintptr(unsafe.Pointer(&unsent)))
		switch {
		case errno != 0 || unsent == 0:
		case timeout == 0:
			_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		default:
			tcptuning.Options{UserTimeout: timeout}.ApplyFD(fd)
		}
	})
}

// LimitUnacked has the kernel end a TCP connection whose bytes the other side does not acknowledge for a time. By default
// that takes about 15 minutes. Other connections, and those of other systems than Linux, stay as they are.
func LimitUnacked(conn net.Conn, timeout time.Duration) {
	withTCP(conn, tcptuning.Options{UserTimeout: timeout}.ApplyFD)
}

// withTCP calls f with the descriptor of the TCP socket beneath a connection, if any.
func withTCP(conn net.Conn, f func(fd int)) {
	for range 4 { // wrappers, such as TLS
		switch c := conn.(type) {
		case nil:
			return
		case *net.TCPConn:
			if raw, err := c.SyscallConn(); err == nil {
				_ = raw.Control(func(fd uintptr) { f(int(fd)) })
			}
			return
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			conn = socketBeneath(c)
		}
	}
}
