package ws

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
	"unsafe"
)

// tlsAtOnce is how many bytes a socket with nothing in its send buffer takes without blocking, the records' overhead
// included: the least send buffer that Linux gives (net.ipv4.tcp_wmem) is larger.
const tlsAtOnce = 15 << 10

// tlsWriter writes to a TLS connection from the worker while the client keeps up. A TLS record cannot be
// written by halves, so whether it will fit is asked first.
type tlsWriter struct {
	conn *tls.Conn
	raw  syscall.RawConn
}

func newTLSWriter(conn net.Conn) directWriter {
	c, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	sc, ok := c.NetConn().(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return tlsWriter{c, raw}
}

// outq asks how many bytes of a socket the other side has not acknowledged yet. It is pooled because a closure would cost an
// allocation for each write.
type outq struct {
	n  int32
	do func(fd uintptr)
}

var outqs = sync.Pool{New: func() any {
	q := &outq{}
	q.do = func(fd uintptr) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&q.n))); errno != 0 {
			q.n = -1
		}
	}
	return q
}}

func (w tlsWriter) tryWrite(b []byte) (int, error) {
	if len(b) > tlsAtOnce {
		return 0, nil
	}
	q := outqs.Get().(*outq)
	err := w.raw.Control(q.do)
	waiting := q.n
	outqs.Put(q)
	if err != nil || waiting != 0 {
		return 0, err
	}
	return w.conn.Write(b)
}
