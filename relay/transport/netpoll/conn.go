package netpoll

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// stallTimeout bounds how long a full socket may take to accept pieceSize bytes.
	stallTimeout = 60 * time.Second
	pieceSize    = 16 << 10
	// noFD replaces the descriptor of a connection that is not a plain socket.
	noFD = -1
)

// Owner is the protocol above a [Conn].
type Owner interface {
	// ReadReady is called when bytes or the end of the stream may have arrived. The owner calls [Conn.ReadOrRest] until
	// the connection rests or ends, and may use scratch meanwhile. Calls for the same connection do not overlap.
	ReadReady(scratch []byte)
	// FlushSoon asks for a call of [Conn.Flush] on another goroutine: a read made TLS write more than the socket
	// accepted. FlushSoon must not block.
	FlushSoon()
	// Progress is called after the socket accepted n bytes of a blocking write; with TLS, encrypted ones.
	Progress(n int)
}

// Conn is the byte side of a connection: writes that never block, and reads that need no goroutine while nothing
// arrives. [Poller.Attach] initializes a Conn. A Conn must not be copied.
//
// The lock guards the descriptor against Close. The owner's write queue is under the same lock, which saves a second
// lock operation for each write.
type Conn struct {
	sync.Mutex
	fd       int32 // of the socket, also of that beneath TLS; noFD if there is none
	activity atomic.Uint32
	writer   writer // nil: writes go to fd
	net      net.Conn
	owner    Owner
	poller   *Poller
	closed   bool // guarded by the lock
	watched  bool // the poller has this Conn; read by the reader only
}

// writer writes to a connection that is not a plain socket. The Conn's lock is held during tryWrite only.
type writer interface {
	tryWrite(b []byte) (n, kept int, err error)
	kept() int
	write(b []byte, out writeFunc) error
	flush(out writeFunc) error
}

// writeFunc writes all of b to conn and may block.
type writeFunc func(conn net.Conn, b []byte) error

// Attach makes c the byte side of conn, which must not be in use by another goroutine. Wrappers that no longer do
// anything, such as that of the PROXY protocol, are taken off. Attach returns the bytes that they had read from the
// socket: these precede the first bytes that c reads.
func (p *Poller) Attach(c *Conn, conn net.Conn, owner Owner) (early []byte) {
	setOptions(conn, p.UnackedTimeout())
	c.owner, c.poller = owner, p
	c.activity.Store(reading)
	if t, ok := conn.(*tls.Conn); ok {
		c.net = conn
		if c.fd = noFD; p.usesDirectTLS() {
			p.tls.shrink(t)
			c.attachTLS(t)
		}
		return nil
	}
	c.net, early = unwrap(conn)
	if c.fd = socketOf(c.net); c.fd == noFD {
		c.writer = p.newRawWriter(c.net)
	}
	return early
}

// NetConn returns the connection that was attached, without the wrappers that were taken off.
func (c *Conn) NetConn() net.Conn { return c.net }

// Owner returns the owner that was attached.
func (c *Conn) Owner() Owner { return c.owner }

// TryWrite writes without blocking and returns how many bytes were accepted, possibly none. If kept is not 0, so many
// encrypted bytes are still in memory, and the caller must call Flush on another goroutine. The lock is held and no
// other write runs.
func (c *Conn) TryWrite(b []byte) (n, kept int, err error) {
	switch {
	case c.writer != nil:
		return c.writer.tryWrite(b)
	case c.fd != noFD:
		n, err = send(c.fd, b)
		return n, 0, err
	}
	return 0, 0, nil
}

// Kept returns how many encrypted bytes the socket has not accepted yet.
func (c *Conn) Kept() int {
	if c.writer == nil {
		return 0
	}
	return c.writer.kept()
}

// Unacknowledged returns how many bytes in a TCP socket the other side's kernel has not acknowledged, or how many in a
// Unix socket the other process has not read; 0 if the kernel does not tell, as for a stream of HTTP/2. The lock is
// held.
func (c *Conn) Unacknowledged() int {
	if c.closed || c.fd == noFD {
		return 0
	}
	return unacknowledged(c.fd)
}

// Write writes all of b. Write blocks until the socket has accepted b, or the client has stalled for stallTimeout.
func (c *Conn) Write(b []byte) error {
	if c.writer == nil {
		return c.writeOut(c.net, b)
	}
	return c.writer.write(b, c.writeOut)
}

// Flush writes the kept bytes, and blocks as Write does.
func (c *Conn) Flush() error {
	if c.writer == nil {
		return nil
	}
	return c.writer.flush(c.writeOut)
}

// writeOut writes b to conn, with stallTimeout for each piece.
func (c *Conn) writeOut(conn net.Conn, b []byte) error {
	for len(b) > 0 {
		_ = conn.SetWriteDeadline(time.Now().Add(stallTimeout))
		n, err := conn.Write(b[:min(len(b), pieceSize)])
		if err != nil {
			return err
		}
		c.owner.Progress(n)
		b = b[n:]
	}
	return nil
}

// CloseWrite ends the outgoing direction.
func (c *Conn) CloseWrite() {
	if cw, ok := c.net.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
	}
}

// Close ends the connection and wakes the reader. The kernel discards unsent bytes after unsentTimeout, at once for a
// timeout of 0. Close may be called more than once.
func (c *Conn) Close(unsentTimeout time.Duration) {
	c.Lock()
	if !c.closed {
		limitUnsent(c.net, unsentTimeout)
	}
	c.closed = true
	c.Unlock()
	if t, ok := c.net.(interface{ NetConn() net.Conn }); ok {
		_ = t.NetConn().Close() // closing the TLS layer would wait until close_notify is sent
	} else {
		_ = c.net.Close()
	}
	c.wake(true) // epoll does not report a descriptor that the process itself has closed
}

// errWouldBlock means that there is nothing to read at the moment.
var errWouldBlock = errors.New("nothing to read")
