//go:build !linux

package netpoll

import (
	"net"
	"time"
)

// setOptions: only Linux has the options.
func setOptions(net.Conn, time.Duration) {}

func limitUnsent(net.Conn, time.Duration) {}

// LimitUnacked has the kernel end a TCP connection whose bytes the other side does not acknowledge for a time, and send
// unacknowledged bytes again at least every 1.5 s. By default that takes about 15 minutes, with pauses of up to two
// minutes. Other connections, and those of other systems than Linux, stay as they are.
func LimitUnacked(net.Conn, time.Duration) {}
