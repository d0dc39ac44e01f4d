package outgoing

// maxControlQueue is the number of queued bytes, other than events, above which another control message closes the connection.
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
