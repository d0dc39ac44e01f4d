package httpstream

import (
	"net"
	"sync"
	"time"
)

// stuckTimeout is how long a write may continue after its stream has been aborted. The HTTP server then waits for the
// TCP connection beneath, which does not accept bytes.
const stuckTimeout = 5 * time.Second

// Conn is a stream as a [net.Conn]. Reads have no deadline. All methods may be called concurrently, but only one
// goroutine at a time may read, and one write.
type Conn struct {
	stream Stream
	cut    func() // see [Options]
	set    *Set   // nil if there is none

	mu sync.Mutex
	// The lock guards the fields below, and every use of the stream but Read and Write.
	served   Protocol // nil until Serve
	writing  bool
	closed   bool
	armed    bool // timer runs
	deadline time.Time
	timer    *time.Timer
	idle     chan struct{} // closed when the Conn is closed and nothing writes; nil until somebody waits
}

// Protocol is the protocol above a [Conn].
type Protocol interface {
	// ServeStream reads the connection until its end. It calls [Conn.Close], or has another goroutine call it soon.
	ServeStream()
	// Close closes the connection in the way of the protocol, with a code of RFC 6455. It does not block, may be called
	// concurrently, and has no effect after the end.
	Close(code int, reason string)
}

// Serve has the goroutine that serves the stream call p, after the handshake.
func (c *Conn) Serve(p Protocol) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served = p
}

// evict closes the connection in the way of its protocol, or at once if the handshake is not over: then there is no
// protocol yet.
func (c *Conn) evict(code int, reason string) {
	c.mu.Lock()
	served := c.served
	c.mu.Unlock()
	if served == nil {
		_ = c.Close()
		return
	}
	served.Close(code, reason)
}

// Read implements [net.Conn].
func (c *Conn) Read(b []byte) (int, error) { return c.stream.Read(b) }

// Write implements [net.Conn]. The write deadline aborts the stream.
func (c *Conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	c.writing = true
	c.mu.Unlock()
	n, err := c.stream.Write(b)
	c.mu.Lock()
	c.writing = false
	c.report()
	c.mu.Unlock()
	return n, err
}

// SetWriteDeadline implements [net.Conn]. A write that takes longer aborts the stream.
//
// The server's own deadlines cost two messages to the goroutine of the HTTP/2 connection for each write. So the Conn
// has a timer, which is started once and looks at the deadline when it fires.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if t.IsZero() || c.armed || c.closed {
		return nil
	}
	c.armed = true
	if c.timer == nil {
		c.timer = time.AfterFunc(time.Until(t), c.checkDeadline)
	} else {
		c.timer.Reset(time.Until(t))
	}
	return nil
}

// checkDeadline is called by the timer.
func (c *Conn) checkDeadline() {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := time.Until(c.deadline)
	switch {
	case c.closed || !c.writing || c.deadline.IsZero():
		c.armed = false
	case left > 0:
		c.timer.Reset(left)
	default:
		c.armed, c.closed = false, true
		c.stream.Abort()
		c.report()
	}
}

// Close implements [net.Conn]. A write in progress cannot be finished, and aborts the stream. Otherwise the stream ends
// in an orderly way as soon as nothing reads it.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if c.writing {
		c.stream.Abort()
	} else {
		c.stream.StopReading()
	}
	c.report()
	return nil
}

// report tells finish that the stream is no longer used. The lock is held.
func (c *Conn) report() {
	if c.idle != nil && c.closed && !c.writing {
		close(c.idle)
		c.idle = nil
	}
}

// finish ends the stream when the Conn is closed and no write is in progress.
func (c *Conn) finish() {
	c.mu.Lock()
	if !c.closed || c.writing {
		idle := make(chan struct{})
		c.idle = idle
		c.mu.Unlock()
		c.awaitIdle(idle)
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.set.remove(c)
	c.stream.End()
}

// awaitIdle waits until nothing uses the stream. If the write of an aborted stream does not return, it cuts the
// connection beneath, together with the client's other streams, which do not move either.
func (c *Conn) awaitIdle(idle <-chan struct{}) {
	tick := time.NewTicker(stuckTimeout)
	defer tick.Stop()
	for {
		select {
		case <-idle:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		stuck := c.closed && c.writing
		c.mu.Unlock()
		if !stuck {
			continue
		}
		if c.cut != nil {
			c.cut()
		}
		<-idle
		return
	}
}

// SetReadDeadline implements [net.Conn], without an effect.
func (*Conn) SetReadDeadline(time.Time) error { return nil }

// SetDeadline implements [net.Conn] for writes.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetWriteDeadline(t) }

// LocalAddr implements [net.Conn]. The address is unknown: the connection beneath has one.
func (*Conn) LocalAddr() net.Addr { return streamAddr{} }

// RemoteAddr implements [net.Conn]. The address is unknown: the request has one.
func (*Conn) RemoteAddr() net.Addr { return streamAddr{} }

// streamAddr is the address of a stream.
type streamAddr struct{}

func (streamAddr) Network() string { return "stream" }
func (streamAddr) String() string  { return "stream" }

var _ net.Conn = (*Conn)(nil)
