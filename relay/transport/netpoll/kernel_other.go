//go:build !linux

package netpoll

import (
	"net"
	"time"
)

// limitKernelBuffers: only Linux can limit unsent bytes.
func limitKernelBuffers(net.Conn) {}

func limitUnsent(net.Conn, time.Duration) {}

// LimitUnacked has the kernel end a TCP connection whose bytes the other side does not acknowledge for a time. By default
// that takes about 15 minutes. Other connections, and those of other systems than Linux, stay as they are.
func LimitUnacked(net.Conn, time.Duration) {}
