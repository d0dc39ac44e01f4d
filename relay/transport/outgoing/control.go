package outgoing

// maxControlQueue is the queue in bytes above which another control message closes the connection.
const maxControlQueue = 1 << 20

// SendControl writes or queues a control message, such as a pong. A ping is not queued: a client with queued bytes is
// alive while the queue shrinks.
func (c *Conn) SendControl(message []byte, ping bool) (sent bool) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return false
	}
	if !c.flushing {
		if message = c.tryWrite(message, false); len(message) == 0 {
			return true
		}
	}
	switch queued := c.queuedBytes(); {
	case queued > 0 && ping:
		return false
	case queued > maxControlQueue: // a flood of pings from a client that does not read the answers
		c.closeSlow()
		return false
	}
	c.enqueue(message)
	return true
}
