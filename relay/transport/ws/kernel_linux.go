package ws

import (
	"net"
	"syscall"
	"time"
	"unsafe"
)

// The kernel has buffers of its own for each socket. By default it lets both grow to some megabytes while data moves,
// and keeps them for a client that takes nothing. So what has not been sent yet is bounded. What is on its way is not:
// that a fast link over a long distance needs, and a client that does not read acknowledges it all the same, into its
// own kernel's memory.
const (
	// unsentMost is how many bytes the kernel may hold of what has not been sent to a client. More waits in our queue.
	unsentMost = 128 << 10
	// receiveBuffer is the buffer for what a client sends, half of what the kernel makes of it. Messages from clients
	// are short.
	receiveBuffer = 64 << 10

	tcpUserTimeout  = 18     // TCP_USER_TIMEOUT
	tcpNotSentLowat = 25     // TCP_NOTSENT_LOWAT
	ioctlNotSent    = 0x894b // SIOCOUTQNSD
)

// boundKernel limits what the kernel holds for a client. A Unix socket has such a limit already: net.core.wmem_default,
// 208 KiB.
func boundKernel(conn net.Conn) {
	withTCP(conn, func(fd int) {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpNotSentLowat, unsentMost)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
	})
}

// giveUpUnsent is called before a connection is closed. If the kernel still has bytes that the client does not take, it
// would keep them, with a socket that nobody holds, for minutes. So it is told to forget them: at once if the client is
// cut off, and after closeWait if a close frame is among them.
func giveUpUnsent(conn net.Conn, cutOff bool) {
	withTCP(conn, func(fd int) {
		var unsent int32
		_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), ioctlNotSent,
			uintptr(unsafe.Pointer(&unsent)))
		switch {
		case errno != 0 || unsent == 0:
		case cutOff:
			_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		default:
			_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpUserTimeout, int(closeWait/time.Millisecond))
		}
	})
}

// withTCP calls f with the number of the TCP socket beneath a connection, if there is one.
func withTCP(conn net.Conn, f func(fd int)) {
	for range 4 { // wrappers, such as TLS and that of the PROXY protocol
		switch c := conn.(type) {
		case *net.TCPConn:
			if raw, err := c.SyscallConn(); err == nil {
				_ = raw.Control(func(fd uintptr) { f(int(fd)) })
			}
			return
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		case interface {
			TCPConn() (*net.TCPConn, bool)
		}:
			tcp, ok := c.TCPConn()
			if !ok {
				return
			}
			conn = tcp
		default:
			return
		}
	}
}
