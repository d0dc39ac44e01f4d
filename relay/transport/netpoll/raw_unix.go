//go:build unix

package netpoll

import (
	"net"
	"sync"
	"syscall"
)

// newRawWriter returns a writer past the runtime's poller, or nil if conn has no descriptor.
func (p *Poller) newRawWriter(conn net.Conn) writer {
	if w, ok := conn.(TryWriter); ok {
		return plainWriter{w, conn}
	}
	if w := p.rawWriterOf(conn); w != nil {
		return plainWriter{w, conn}
	}
	return nil
}

func (p *Poller) rawWriterOf(conn net.Conn) TryWriter {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return rawWriter{raw, &p.calls}
}

type rawWriter struct {
	conn  syscall.RawConn
	calls *sync.Pool
}

// writeCall is a call of write(2), pooled because the closure would be an allocation for each write.
type writeCall struct {
	b   []byte
	n   int
	err error
	do  func(fd uintptr) bool
}

func newWriteCall() *writeCall {
	c := &writeCall{}
	c.do = func(fd uintptr) bool {
		for {
			c.n, c.err = syscall.Write(int(fd), c.b)
			if c.err != syscall.EINTR {
				return true // also if the socket is full: never wait
			}
		}
	}
	return c
}

// TryWrite implements [TryWriter].
func (w rawWriter) TryWrite(b []byte) (int, error) {
	c, ok := w.calls.Get().(*writeCall)
	if !ok {
		c = newWriteCall()
	}
	c.b = b
	err := w.conn.Write(c.do)
	n := c.n
	if err == nil && c.err != syscall.EAGAIN {
		err = c.err
	}
	c.b, c.n, c.err = nil, 0, nil
	w.calls.Put(c)
	return max(n, 0), err
}
