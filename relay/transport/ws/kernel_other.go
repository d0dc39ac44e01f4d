//go:build !linux

package ws

import "net"

// boundKernel: only Linux bounds what has not been sent.
func boundKernel(net.Conn) {}

func giveUpUnsent(net.Conn, bool) {}
