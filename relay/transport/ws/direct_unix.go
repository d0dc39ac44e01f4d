//go:build unix

package ws

import (
	"net"
	"sync"
	"syscall"
)

// directWriter writes to a socket past the runtime's poller: what the kernel does not take at
// once is left to the caller.
type directWriter interface {
	// tryWrite returns how many bytes the socket took, possibly none.
	tryWrite(b []byte) (int, error)
}

// newDirectWriter returns the direct way to conn, or nil if there is none.
func newDirectWriter(conn net.Conn) directWriter {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return rawWriter{raw}
}

type rawWriter struct{ conn syscall.RawConn }

// attempt is one call of write(2). It is pooled because a closure would cost an allocation for each write.
type attempt struct {
	b   []byte
	n   int
	err error
	do  func(fd uintptr) bool
}

var attempts = sync.Pool{New: func() any {
	a := &attempt{}
	a.do = func(fd uintptr) bool {
		for {
			a.n, a.err = syscall.Write(int(fd), a.b)
			if a.err != syscall.EINTR {
				return true // also when the socket is full: never wait
			}
		}
	}
	return a
}}

func (w rawWriter) tryWrite(b []byte) (int, error) {
	a := attempts.Get().(*attempt)
	a.b = b
	err := w.conn.Write(a.do)
	n := a.n
	if err == nil && a.err != syscall.EAGAIN {
		err = a.err
	}
	a.b, a.n, a.err = nil, 0, nil
	attempts.Put(a)
	return max(n, 0), err
}
