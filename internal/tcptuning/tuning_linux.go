package tcptuning

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options of <linux/tcp.h> that package syscall lacks.
const (
	tcpUserTimeout = 18 // TCP_USER_TIMEOUT
	tcpRTOMaxMS    = 44 // TCP_RTO_MAX_MS, since Linux 6.15
)

// keepAliveProbes is the number of unanswered probes after which the kernel ends a connection without a user timeout.
const keepAliveProbes = 3

// ApplyFD is [Options.Apply] for the descriptor of a TCP socket. It does not allocate.
func (o Options) ApplyFD(fd int) {
	if o.MaxSegment > 0 {
		set(fd, syscall.TCP_MAXSEG, o.MaxSegment)
	}
	if o.UserTimeout > 0 && set(fd, tcpUserTimeout, milliseconds(o.UserTimeout)) && o.MaxRTO > 0 {
		set(fd, tcpRTOMaxMS, milliseconds(o.MaxRTO))
	}
	if o.KeepAlive > 0 {
		seconds := max(int((o.KeepAlive+time.Second-1)/time.Second), 1)
		set(fd, syscall.TCP_KEEPIDLE, seconds)
		set(fd, syscall.TCP_KEEPINTVL, seconds)
		set(fd, syscall.TCP_KEEPCNT, keepAliveProbes)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
	}
}

// set sets an option of TCP, and reports whether the kernel has accepted it.
func set(fd, option, value int) bool {
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, option, value) == nil
}

func milliseconds(d time.Duration) int { return max(int(d/time.Millisecond), 1) }

// CapsRetransmission reports whether this kernel can bound the pauses between transmissions.
func CapsRetransmission() bool {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = syscall.Close(fd) }()
	return set(fd, tcpRTOMaxMS, milliseconds(time.Second))
}

// Retransmits returns how many times in a row the kernel has sent the oldest unacknowledged bytes of a connection
// again; 0 if the other side has acknowledged something since, or if the kernel does not tell.
func Retransmits(conn *net.TCPConn) int { return int(info(conn).Retransmits) }

// Repeated returns how many packets of a connection the kernel has sent again, the first ones of the handshake
// included; 0 if it does not tell.
func Repeated(conn *net.TCPConn) int { return int(info(conn).Total_retrans) }

// info returns what the kernel knows about a connection, zeros if it does not tell. conn may be nil.
func info(conn *net.TCPConn) (i unix.TCPInfo) {
	if conn == nil {
		return i
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return i
	}
	_ = raw.Control(func(fd uintptr) { // an error: the connection has ended
		if got, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			i = *got
		}
	})
	return i
}
