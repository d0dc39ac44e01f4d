package outgoing

import (
	"io"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Close implements [relay.Socket].
func (c *Conn) Close(code int, reason string) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state == open {
		c.close(code, reason)
	}
}

// close sends a close message, and aborts the connection if the client does not answer. A slow consumer loses its
// queue, except the piece that has been written in part. The lock is held.
func (c *Conn) close(code int, reason string) {
	c.state = closing
	message := c.io.Owner().(Protocol).CloseMessage(code, reason)
	switch {
	case !c.flushing:
		if rest := c.tryWrite(message, false, answers); len(rest) > 0 {
			c.enqueue(rest, answers)
		}
	case code != relay.ClosePolicy || c.queue == nil: // other clients still get their queue
		c.enqueue(message, answers)
	default: // flush may be writing the first piece; a frame that has begun must be finished
		c.queue.cut()
		c.enqueue(message, answers)
	}
	time.AfterFunc(CloseTimeout, c.Kill)
}

// AnswerClose writes or queues the answer to the client's close message, unless our own is on its way.
func (c *Conn) AnswerClose(message []byte) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return
	}
	c.state = closing
	if !c.flushing {
		message = c.tryWrite(message, false, answers)
	}
	if len(message) > 0 {
		c.enqueue(message, answers)
	}
}

// Kill implements [relay.Socket].
func (c *Conn) Kill() { c.kill(true) }

// kill closes the connection. Without abort, the client has CloseTimeout to take the bytes in the kernel.
func (c *Conn) kill(abort bool) {
	c.io.Lock()
	c.state = finished
	c.io.Unlock()
	timeout := CloseTimeout
	if abort {
		timeout = 0
	}
	c.io.Close(timeout)
}

// End closes the connection, and leaves the client CloseTimeout to take the bytes in the kernel. Queued bytes are lost.
func (c *Conn) End() { c.kill(false) }

// EndQueued closes the connection when the queue is empty, at the latest after CloseTimeout.
func (c *Conn) EndQueued() {
	c.io.Lock()
	if c.flushing {
		c.endQueued = true
		c.io.Unlock()
		time.AfterFunc(CloseTimeout, c.Kill)
		return
	}
	c.io.Unlock()
	c.kill(false)
}

// DiscardInput ends the outgoing direction after the queue, and reads on for a second. The kernel resets a connection
// that is closed with unread bytes, and the client would lose the close message.
func (c *Conn) DiscardInput() {
	_ = c.io.NetConn().SetReadDeadline(time.Now().Add(time.Second))
	c.io.Lock()
	flushing := c.flushing
	c.shutdown = flushing // flush ends the direction after the close message
	c.io.Unlock()
	if !flushing {
		c.io.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(&c.io, 1<<20))
}
