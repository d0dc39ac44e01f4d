//go:build !linux

package tcptuning

import "net"

// Queued returns the send queue of a connection, false if the system does not tell.
func Queued(*net.TCPConn) (SendQueue, bool) { return SendQueue{}, false }

// Abort ends a connection at once, without sending queued bytes, and returns the queue from then. It returns false if
// the system does not tell; the connection has not ended then.
func Abort(*net.TCPConn) (SendQueue, bool) { return SendQueue{}, false }
