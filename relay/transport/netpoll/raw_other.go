//go:build !unix

package netpoll

import (
	"crypto/tls"
	"net"
)

// newRawWriter: a socket cannot be written without blocking on this platform. Writes wait in the owner's queue.
func (*Poller) newRawWriter(conn net.Conn) writer {
	if w, ok := conn.(TryWriter); ok {
		return plainWriter{w, conn}
	}
	return nil
}

// attachTLS: see newRawWriter.
func (c *Conn) attachTLS(*tls.Conn) {}
