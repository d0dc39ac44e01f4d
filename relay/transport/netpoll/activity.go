package netpoll

import "runtime"

// The activity of a connection's reader, as bits. A Conn starts in reading.
const (
	reading  = 1 << iota // a goroutine reads, or is about to
	again                // bytes may have arrived since the reader last looked
	hungUp               // the stream has ended, or has an urgent byte: a short read does not mean empty
	released             // the connection will not be read again
)

// Start lets the poller call [Owner.ReadReady] from now on. pending says that the owner has bytes to handle already.
// Start returns false if no poller can watch this connection: the owner then calls Read on another goroutine.
func (c *Conn) Start(pending bool) (polled bool) {
	if !c.watch() {
		return false
	}
	if pending || c.holds() || !c.rest() {
		c.poller.dispatch(c)
	}
	return true
}

// Read reads like [net.Conn] and may block.
func (c *Conn) Read(b []byte) (int, error) { return c.net.Read(b) }

// ReadOrRest reads the available bytes. If there are none, the connection rests until the poller calls
// [Owner.ReadReady] again, and ReadOrRest returns 0. It may block for the rest of a TLS record. The caller passes the
// result drained to the next call, which saves a system call after the last read.
func (c *Conn) ReadOrRest(b []byte, drained bool) (n int, nowDrained bool, err error) {
	if drained && c.activity.CompareAndSwap(reading, 0) {
		return 0, false, nil
	}
	for {
		c.activity.And(^uint32(again))
		if n, drained, err = c.tryRead(b); err != errWouldBlock {
			return n, drained, err
		}
		if c.rest() {
			return 0, false, nil
		}
	}
}

// Release ends the poller's interest in the connection. The reader calls Release once, after the last read.
func (c *Conn) Release() {
	c.activity.Or(released)
	if c.watched {
		c.poller.epoll.remove(c)
	}
}

// wake makes a reader look at the connection.
func (c *Conn) wake(hup bool) {
	for {
		old := c.activity.Load()
		if old&released != 0 {
			return
		}
		now := old | reading
		if old&reading != 0 {
			now |= again
		}
		if hup {
			now |= hungUp
		}
		if now == old {
			return
		}
		if c.activity.CompareAndSwap(old, now) {
			if old&reading == 0 {
				c.poller.dispatch(c)
			}
			return
		}
	}
}

// rest ends the activity, unless more has arrived since the reader last looked.
func (c *Conn) rest() bool {
	for {
		old := c.activity.Load()
		if old&again != 0 {
			return false
		}
		if c.activity.CompareAndSwap(old, 0) {
			return true
		}
	}
}

// dispatch has a goroutine read from the connection. A few readers stay for the next connection: growing the stack of a
// new goroutine costs more than everything else about a message.
// See docs/decisions/transport.md#why-do-some-reader-goroutines-stay-alive
func (p *Poller) dispatch(c *Conn) {
	select {
	case p.ready <- c:
	default:
		go p.read(c)
	}
}

func (p *Poller) read(c *Conn) {
	scratch := make([]byte, 1024)
	for c != nil {
		c.owner.ReadReady(scratch)
		c = nil
		// GOMAXPROCS may change while the process runs. Close reads idle after it has set closed.
		if p.idle.Add(1) <= int32(4*runtime.GOMAXPROCS(0)) && !p.closed.Load() {
			c = <-p.ready
		}
		p.idle.Add(-1)
	}
}
