//go:build !unix

package ws

import "net"

// directWriter is not available here: every write goes through the session's queue.
type directWriter interface {
	tryWrite(b []byte) (int, error)
}

func newDirectWriter(net.Conn) directWriter { return nil }

// tlsWriter is not either.
type tlsWriter struct{}

type attendant uint8

const flusher attendant = 0

func newTLSWriter(*Conn) *tlsWriter                                   { return nil }
func (*tlsWriter) tryWrite([]byte) (n, kept int, err error)           { return 0, 0, nil }
func (*tlsWriter) encrypt([]byte, attendant) (n, kept int, err error) { return 0, 0, nil }
func (*tlsWriter) waiting() int                                       { return 0 }
func (*tlsWriter) settle(func(net.Conn, []byte) error) error          { return nil }
