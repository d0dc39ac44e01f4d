package ws

import "github.com/edgerelay/edgerelay/relay"

// closeSlow closes a client for which too much waits. c.mu is held.
func (c *Conn) closeSlow() {
	c.slow = true
	c.close(relay.ClosePolicy, "slow reader: too much is waiting")
}

// Waiting implements [relay.Socket].
func (c *Conn) Waiting() (bytes int, slow bool) {
	c.io.Lock()
	defer c.io.Unlock()
	return c.waiting(), c.slow
}
