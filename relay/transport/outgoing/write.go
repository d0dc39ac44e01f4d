package outgoing

import (
	"bytes"
	"errors"
	"syscall"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// smallPiece is the length up to which queued frames are copied. A slice of the original would keep a whole buffer
	// in memory, with frames for other clients.
	smallPiece = 4 << 10
	// chunk is the size of the pieces in which copies are collected. A piece for each would take half as much again.
	chunk = 16 << 10
)

// Send implements [relay.Socket].
func (c *Conn) Send(frames []byte, limit int) bool { return c.send(frames, limit, false) }

// SendCopy implements [relay.Socket].
func (c *Conn) SendCopy(frames []byte, limit int) bool { return c.send(frames, limit, true) }

// send writes or queues frames. A borrowed buffer is copied before queuing.
func (c *Conn) send(frames []byte, limit int, borrowed bool) bool {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return false
	}
	if !c.flushing {
		frames = c.tryWrite(frames, borrowed)
		if len(frames) == 0 {
			return true
		}
	}
	// With an empty queue, frames longer than the limit are not the client's fault.
	if queued := c.queuedBytes(); limit > 0 && queued > 0 && queued+len(frames) > limit {
		c.closeSlow()
		return false
	}
	if borrowed && len(frames) > smallPiece {
		frames = bytes.Clone(frames)
	}
	c.enqueue(frames)
	return true
}

// tryWrite writes the bytes that the socket accepts now and returns the rest. The lock is held and nothing is queued.
func (c *Conn) tryWrite(b []byte, borrowed bool) []byte {
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
		rest := b[n:]
		if borrowed && len(rest) > smallPiece {
			rest = bytes.Clone(rest)
		}
		c.enqueue(rest)
		return nil
	}
	return b[n:]
}

// enqueue appends b to the queue. The lock is held.
func (c *Conn) enqueue(b []byte) {
	c.queued += len(b)
	c.startFlush()
	if len(b) > smallPiece {
		c.queue, c.growing = append(c.queue, b), false
		return
	}
	last := len(c.queue) - 1
	if last < 1 || !c.growing || len(c.queue[last])+len(b) > chunk { // flush has the first piece
		c.queue, c.growing = append(c.queue, copyPiece(b)), true
		return
	}
	tail := c.queue[last]
	if need := len(tail) + len(b); need > cap(tail) {
		tail = append(make([]byte, 0, min(chunk, max(need, 2*cap(tail)))), tail...)
	}
	c.queue[last] = append(tail, b...)
}

// queuedBytes returns how many bytes are queued for the client. The lock is held.
func (c *Conn) queuedBytes() int { return c.queued + c.io.Kept() }

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
// bytes is not pinged.
func (c *Conn) Progress() { c.Touch() }

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
	case c.state != finished && len(c.queue) > 0:
		piece = c.queue[0]
	case c.state != finished && c.io.Kept() > 0:
	default:
		c.queue, c.queued, c.flushing = nil, 0, false
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
	if len(c.queue) > 0 { // close may have cut the queue, but never the head
		recyclePiece(c.queue[0])
		c.queue[0] = nil
		c.queue = c.queue[1:]
		c.queued -= n
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
