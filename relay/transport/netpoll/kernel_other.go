//go:build !linux

package netpoll

import (
	"net"
	"time"
)

// limitKernelBuffers: only Linux can limit unsent bytes.
func limitKernelBuffers(net.Conn) {}

func limitUnsent(net.Conn, time.Duration) {}
