//go:build !linux || 386

package netpoll

import (
	"errors"
	"net"
)

// socketOf: only Linux's sockets are used by their descriptor.
func socketOf(net.Conn) int32 { return noFD }

func send(int32, []byte) (int, error) { return 0, errors.ErrUnsupported }
