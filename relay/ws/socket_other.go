//go:build !linux || 386

package ws

import (
	"errors"
	"net"
)

// noSocket is the number of a connection that is not a plain socket.
const noSocket = -1

// socketOf: only Linux's sockets are written by their number.
func socketOf(net.Conn) int32 { return noSocket }

func sendNow(int32, []byte) (int, error) { return 0, errors.ErrUnsupported }
