package outgoing

import "math"

// maxControlQueue is the number of queued bytes, other than events, above which another control message closes the
// connection.
const maxControlQueue = 1 << 20

// SendControl writes or queues a control message, such as a pong. A ping is not queued: a client with queued bytes is
// alive while it takes some.
func (c *Conn) SendControl(message []byte, ping bool) (sent bool) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return false
	}
	if ping {
		c.lookAtKernel()
	}
	if !c.flushing {
		if message = c.tryWrite(message, false, answers); len(message) == 0 {
			return true
		}
	}
	if ping && c.queuedBytes() > 0 {
		return false
	}
	// A flood of pings from a client that does not read the answers ends here.
	if !c.hasRoom(len(message), maxControlQueue, answers) {
		return false
	}
	c.enqueue(message, answers)
	return true
}

// unackedUnit is large enough for 16 MiB in 16 bits, and small beside the bytes that a slow line carries between two
// pings.
const unackedUnit = 256

// lookAtKernel records that the client is alive if it has taken bytes from the kernel since the last ping. The answer
// to a ping comes late from a slow line: the ping waits behind bytes in the kernel, which are not the queue's any more,
// and the kernel takes the next bytes of the queue only after tens of kilobytes have left. The lock is held.
func (c *Conn) lookAtKernel() {
	now := uint16(min(c.io.Unacknowledged()/unackedUnit, math.MaxUint16))
	if now < c.unacked {
		c.Touch()
	}
	c.unacked = now
}
