package netpoll

import (
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

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

	// maxRTO is the longest pause between two transmissions of the same bytes: after an outage, a client waits as long at
	// most. A shorter pause would send bytes twice on mobile networks, whose buffers delay them for a second and more.
	// See docs/decisions/transport.md#why-are-retransmissions-to-clients-at-most-15-s-apart
	maxRTO = 1500 * time.Millisecond

	tcpNotSentLowat = 25     // TCP_NOTSENT_LOWAT
	ioctlNotSent    = 0x894b // SIOCOUTQNSD
)

// setOptions limits the kernel's memory for a client, and the time without an acknowledgment unless it is 0. A Unix
// socket has a limit of memory already: net.core.wmem_default, 208 KiB. See
// docs/decisions/transport.md#why-does-the-kernel-hold-at-most-128-kib-of-unsent-bytes-per-client
func setOptions(conn net.Conn, unacked time.Duration) {
	withTCP(conn, func(fd int) {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsent)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
		tuningFor(unacked).ApplyFD(fd)
	})
}

// tuningFor returns the options of a connection that ends after a time without an acknowledgment; none for 0.
func tuningFor(unacked time.Duration) tcptuning.Options {
	if unacked <= 0 {
		return tcptuning.Options{}
	}
	return tcptuning.Options{UserTimeout: unacked, MaxRTO: maxRTO}
}

// unacknowledged returns the number of bytes in the kernel that the other side lacks; 0 if the kernel does not tell.
func unacknowledged(fd int32) int {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
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

// LimitUnacked has the kernel end a TCP connection whose bytes the other side does not acknowledge, or does not want,
// for a time; since Linux 6.15 it sends unacknowledged bytes again at least every 1.5 s. By default that takes about 15
// minutes, with pauses of up to two minutes. Other connections, and those of other systems than Linux, stay as they
// are.
func LimitUnacked(conn net.Conn, timeout time.Duration) {
	withTCP(conn, tuningFor(timeout).ApplyFD)
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
