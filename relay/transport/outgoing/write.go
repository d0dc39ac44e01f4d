package outgoing

import (
	"errors"
	"syscall"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Send implements [relay.Socket].
func (c *Conn) Send(frames []byte, limit int) bool { return c.send(frames, limit, false, events) }

// SendCopy implements [relay.Socket].
func (c *Conn) SendCopy(frames []byte, limit int) bool { return c.send(frames, limit, true, events) }

// send writes or queues frames. A borrowed buffer is copied before queuing.
func (c *Conn) send(frames []byte, limit int, borrowed bool, k kind) bool {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return false
	}
	if !c.flushing {
		frames = c.tryWrite(frames, borrowed, k)
		if len(frames) == 0 {
			return true
		}
	}
	if limit > 0 && !c.hasRoom(len(frames), limit, k) {
		return false
	}
	c.enqueue(copyForQueue(frames, borrowed), k)
	return true
}

// hasRoom reports whether so many bytes may be queued. Those that flush is writing do not count: however long, they
// cannot be dropped, and are not the client's fault. A client that leaves too many answers is closed. The lock is held.
func (c *Conn) hasRoom(n, limit int, k kind) bool {
	q := c.queue
	if q == nil {
		return true
	}
	if k == events {
		queued := q.beyondFirst()
		return queued == 0 || queued+n <= limit
	}
	if q.kept > 0 && q.kept+n > limit {
		c.closeSlow()
		return false
	}
	return true
}

// tryWrite writes the bytes that the socket accepts now and returns the rest. The lock is held and nothing is queued.
func (c *Conn) tryWrite(b []byte, borrowed bool, k kind) []byte {
	n, kept, err := c.io.TryWrite(b)
	if kept > 0 {
		c.startFlush()
	}
	if err != nil {
		// After EPIPE and ECONNRESET the reader ends the connection, behind the client's last messages.
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			go c.Kill()
		}
		return nil
	}
	if n > 0 && n < len(b) {
		// The rest may begin within a frame. The head of the queue is always written.
		c.enqueue(copyForQueue(b[n:], borrowed), k)
		return nil
	}
	return b[n:]
}

// enqueue appends b to the queue. The lock is held.
func (c *Conn) enqueue(b []byte, k kind) {
	if c.queue == nil {
		c.queue = newQueue()
	}
	c.queue.add(b, k)
	c.startFlush()
}

// queuedBytes returns how many bytes are queued for the client. The lock is held.
func (c *Conn) queuedBytes() int {
	if c.queue == nil {
		return c.io.Kept()
	}
	return c.queue.bytes + c.io.Kept()
}

// Waiting implements [relay.Socket].
func (c *Conn) Waiting() (bytes int, slow bool) {
	c.io.Lock()
	defer c.io.Unlock()
	return c.queuedBytes(), c.slow
}

// startFlush has a goroutine write the queue. The lock is held.
func (c *Conn) startFlush() {
	if !c.flushing {
		c.flushing = true
		c.io.FlushSoon(c)
	}
}

// FlushSoon implements [netpoll.Owner].
func (c *Conn) FlushSoon() {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != finished {
		c.startFlush()
	}
}

// Progress implements [netpoll.Owner]. Bytes that the client takes are a sign of life, because a client with queued
// bytes is not pinged; lookAtKernel finds those of a slow line. They count as they leave: a client that reads a long
// piece slowly is not hopeless.
func (c *Conn) Progress(n int) {
	c.Touch()
	c.io.Lock()
	defer c.io.Unlock()
	if c.queue != nil {
		c.queue.taken += n
	}
}

// FlushQueue implements [netpoll.Flusher]. It writes the queue until it is empty. While it runs, nothing else writes.
func (c *Conn) FlushQueue() {
	for {
		if err := c.io.Flush(); err != nil {
			c.Kill()
		}
		piece, done := c.nextPiece()
		switch {
		case done:
			return
		case piece == nil:
		case c.io.Write(piece) != nil:
			c.Kill()
		default:
			c.dropPiece(len(piece))
		}
	}
}

// nextPiece returns the head of the queue, or nil if bytes under TLS must be flushed first. done ends flush.
func (c *Conn) nextPiece() (piece []byte, done bool) {
	c.io.Lock()
	switch {
	case c.state != finished && c.queue != nil && c.queue.len() > 0:
		piece = c.queue.first()
	case c.state != finished && c.io.Kept() > 0:
	default:
		if c.queue != nil {
			c.queue.release()
			c.queue = nil
		}
		c.flushing = false
		_ = c.io.NetConn().SetWriteDeadline(time.Time{}) // a deadline would also bound direct writes
		end, shutdown, was := c.endQueued, c.shutdown, c.state
		c.io.Unlock()
		c.finishFlush(end, shutdown, was)
		return nil, true
	}
	c.io.Unlock()
	return piece, false
}

// dropPiece removes the head of the queue, which has been written.
func (c *Conn) dropPiece(n int) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.queue != nil {
		c.queue.removeFirst(n)
	}
}

// finishFlush takes the steps that had to wait for an empty queue.
func (c *Conn) finishFlush(end, shutdown bool, was state) {
	if shutdown {
		c.io.CloseWrite()
	}
	switch {
	case end:
		c.kill(false)
	case was == closing: // the close frame has left, and the client has closeTimeout to answer
		time.AfterFunc(CloseTimeout, c.Kill)
	}
}

// closeSlow closes the connection of a slow consumer. The lock is held.
// See docs/decisions/transport.md#how-is-a-slow-consumer-disconnected
func (c *Conn) closeSlow() {
	c.slow = true
	c.close(relay.ClosePolicy, "slow consumer")
	if _, ok := c.io.Owner().(OneWay); ok {
		c.endQueued = true
	}
}
