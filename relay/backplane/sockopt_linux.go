package backplane

import (
	"net"
	"syscall"
)

// tcpNotSentLowat is TCP_NOTSENT_LOWAT of <linux/tcp.h>, which package syscall lacks.
const tcpNotSentLowat = 25

// wakeSoon has the kernel ask for more as soon as little is left that it has not sent. Else it waits until a third of the buffer is free, and a slow
// link looks for so long as if nothing moved.
func wakeSoon(conn net.Conn) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, writeBytes) // it works without, too
		})
	}
}
