//go:build unix

package netpoll

import (
	"net"
	"sync"
	"syscall"
)

// newRawWriter returns a writer past the runtime's poller, or nil if conn has no descriptor.
func newRawWriter(conn net.Conn) writer {
	if w, ok := conn.(TryWriter); ok {
		return plainWriter{w, conn}
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return plainWriter{rawWriter{raw}, conn}
}

type rawWriter struct{ conn syscall.RawConn }

// attempt is a call of write(2), pooled because the closure would be an allocation for each write.
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
				return true // also if the socket is full: never wait
			}
		}
	}
	return a
}}

// TryWrite implements [TryWriter].
func (w rawWriter) TryWrite(b []byte) (int, error) {
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
