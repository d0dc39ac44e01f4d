//go:build !linux

package netpoll

import (
	"net"
	"time"
)

// setOptions: only Linux has the options.
func setOptions(net.Conn, time.Duration) {}

// unacknowledged: the kernel is asked on Linux only.
func unacknowledged(int32) int { return 0 }

func limitUnsent(net.Conn, time.Duration) {}

// LimitUnacked has the kernel end a TCP connection whose bytes the other side does not acknowledge, or does not want,
// for a time; since Linux 6.15 it sends unacknowledged bytes again at least every 1.5 s. By default that takes about 15
// minutes, with pauses of up to two minutes. Other connections, and those of other systems than Linux, stay as they
// are.
func LimitUnacked(net.Conn, time.Duration) {}
