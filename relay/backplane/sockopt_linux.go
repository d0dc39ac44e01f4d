package backplane

import (
	"net"
	"syscall"
)

// tcpNotSentLowat is TCP_NOTSENT_LOWAT of <linux/tcp.h>, which package syscall lacks.
const tcpNotSentLowat = 25

// wakeSoon makes the kernel accept more as soon as few unsent bytes are left. By default it waits until a third of
// the buffer is free, and a slow link looks stalled for so long.
func wakeSoon(conn net.Conn) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			// The error is ignored: the default is correct as well.
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, writeBytes)
		})
	}
}
