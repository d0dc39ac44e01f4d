//go:build !unix

package ws

import "net"

// directWriter is not available here: every write goes through the session's queue.
type directWriter interface {
	tryWrite(b []byte) (int, error)
}

func newDirectWriter(net.Conn) directWriter { return nil }
