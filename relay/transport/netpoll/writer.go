package netpoll

import "net"

// TryWriter is an optional interface of a [net.Conn] that is not a socket of the kernel. Writes to a connection without
// TryWrite wait in the owner's queue.
type TryWriter interface {
	// TryWrite returns how many bytes were accepted without blocking, possibly none.
	TryWrite(b []byte) (int, error)
}

// plainWriter writes to a connection that keeps no bytes.
type plainWriter struct {
	TryWriter
	conn net.Conn
}

func (w plainWriter) tryWrite(b []byte) (n, kept int, err error) {
	n, err = w.TryWrite(b)
	return n, 0, err
}

func (w plainWriter) write(b []byte, out writeFunc) error { return out(w.conn, b) }

func (plainWriter) kept() int { return 0 }

func (plainWriter) flush(writeFunc) error { return nil }
