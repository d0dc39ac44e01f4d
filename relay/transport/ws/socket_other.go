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

func socketUnderTLS(net.Conn) int32 { return noSocket }

// watch: only Linux has a poller of ours.
func (c *Conn) watch() bool { return false }

func (c *Conn) unwatch() {}

func (c *Conn) readNow([]byte) (int, bool, error) { return 0, false, errors.ErrUnsupported }
