package outgoing

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// DropEvents implements [relay.Dropper].
func (c *Conn) DropEvents(limit int, period time.Duration) (d relay.Dropped, ok bool) {
	c.io.Lock()
	defer c.io.Unlock()
	q := c.queue
	switch {
	case c.state != open:
		return d, false
	case q == nil: // the client has taken everything meanwhile
		return d, true
	case q.isHopeless(time.Now(), limit, period):
		c.closeSlow()
		return d, false
	}
	count := countFrames
	if counter, ok := c.io.Owner().(EventCounter); ok {
		count = counter.CountEvents
	}
	q.dropEvents(func(frames []byte) { d.Events += count(frames) })
	d.Told = q.endsWithNotice()
	return d, true
}

// SendAnswer implements [relay.Dropper].
func (c *Conn) SendAnswer(frames []byte, limit int) bool {
	return c.send(frames, limit, false, answers)
}

// SendNotice implements [relay.Dropper].
func (c *Conn) SendNotice(frames []byte) bool { return c.send(frames, 0, false, notices) }

// CloseSlow closes the connection of a client whose protocol cannot tell about dropped events, as that of a slow
// consumer.
func (c *Conn) CloseSlow() {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state == open {
		c.closeSlow()
	}
}
