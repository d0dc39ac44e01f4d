package ws

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// closeTimeout is how long a client has to take the bytes in the kernel and the close frame, and to answer.
const closeTimeout = 5 * time.Second

// Close implements [relay.Socket].
func (c *Conn) Close(code int, reason string) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state == open {
		c.close(code, reason)
	}
}

// close sends a close frame, and aborts the connection if the client does not answer. A slow consumer loses its queue,
// except the piece that has been written in part. The lock is held.
func (c *Conn) close(code int, reason string) {
	c.state = closing
	frame := closeFrame(code, reason)
	switch {
	case !c.flushing:
		if rest := c.tryWrite(frame, false); len(rest) > 0 {
			c.enqueue(rest)
		}
	case code != relay.ClosePolicy: // other clients still get their queue
		c.enqueue(frame)
	default: // flush may be writing queue[0]; a frame that has begun must be finished
		for i := 1; i < len(c.queue); i++ {
			c.queue[i] = nil
		}
		c.queue, c.queued, c.growing = c.queue[:min(1, len(c.queue))], 0, false
		if len(c.queue) > 0 {
			c.queued = len(c.queue[0])
		}
		c.enqueue(frame)
	}
	time.AfterFunc(closeTimeout, c.Kill)
}

func closeFrame(code int, reason string) []byte {
	frame := append(make([]byte, 0, 4+len(reason)), finBit|opClose, byte(2+len(reason)))
	frame = binary.BigEndian.AppendUint16(frame, uint16(code))
	return append(frame, reason...)
}

// answerClose answers the client's close frame with the same code, unless our close frame is on its way.
func (c *Conn) answerClose(code []byte) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return
	}
	c.state = closing
	frame := append([]byte{finBit | opClose, byte(len(code))}, code...)
	if !c.flushing {
		frame = c.tryWrite(frame, false)
	}
	if len(frame) > 0 {
		c.enqueue(frame)
	}
}

// Kill implements [relay.Socket].
func (c *Conn) Kill() { c.kill(true) }

// kill closes the connection. Without abort, the client has closeTimeout to take the bytes in the kernel.
func (c *Conn) kill(abort bool) {
	c.io.Lock()
	c.state = finished
	c.io.Unlock()
	timeout := closeTimeout
	if abort {
		timeout = 0
	}
	c.io.Close(timeout)
}

// end ends the connection after a read error.
func (c *Conn) end(err error) {
	c.closeAfter(err)
	c.io.Release()
	c.handler.Ended()
}

// closeAfter closes the connection after a read error, so that the client can still read the reason.
func (c *Conn) closeAfter(err error) {
	var wrong violation
	switch {
	case errors.As(err, &wrong):
		c.Close(wrong.code, wrong.reason)
		c.discardInput()
	case errors.Is(err, errClosed):
		c.io.Lock()
		if c.flushing {
			c.endQueued = true
			c.io.Unlock()
			time.AfterFunc(closeTimeout, c.Kill)
			return
		}
		c.io.Unlock()
	}
	c.kill(false)
}

// discardInput ends the outgoing direction and reads on for a second. The kernel resets a connection that is closed
// with unread bytes, and the client would lose the close frame.
func (c *Conn) discardInput() {
	_ = c.io.NetConn().SetReadDeadline(time.Now().Add(time.Second))
	c.io.Lock()
	flushing := c.flushing
	c.shutdown = flushing // flush ends the direction after the close frame
	c.io.Unlock()
	if !flushing {
		c.io.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(&c.io, 1<<20))
}
