package webhttp

import "time"

// extra is the state of a connection whose backend asks for more than requests and messages. Conn.mu guards it.
type extra struct {
	// interval is the time after which an idle connection sends an empty request; poll is the timer, nil if none runs.
	interval time.Duration
	poll     *time.Timer
	// kept is a message for the client that is sent every keptEvery while no other message of the backend's answers is
	// sent, or, if kept is regular, in any case.
	kept        []byte
	keptEvery   time.Duration
	keptRegular bool
	keptTimer   *time.Timer
	// delayed is a message that waits for its time.
	delayed      []byte
	delayedTimer *time.Timer
	// values are the values with which filters compare items.
	values []pair
}

// extras returns c.extra. c.mu is held.
func (c *Conn) extras() *extra {
	if c.extra == nil {
		c.extra = &extra{}
	}
	return c.extra
}

// value returns a value of the subscriptions, as filters see it. c.mu is held.
func (c *Conn) value(name string) (string, bool) {
	if c.extra != nil {
		for _, p := range c.extra.values {
			if p.name == name {
				return p.value, true
			}
		}
	}
	return "", false
}

// startKeepAlive starts the timer of the next keep-alive request. c.mu is held.
func (c *Conn) startKeepAlive() {
	x := c.extra
	if x == nil || x.interval == 0 || c.phase != open || x.poll != nil {
		return
	}
	x.poll = time.AfterFunc(x.interval, c.poll)
}

// stopKeepAlive stops the timer. c.mu is held.
func (c *Conn) stopKeepAlive() {
	if x := c.extra; x != nil && x.poll != nil {
		x.poll.Stop()
		x.poll = nil
	}
}

// poll makes a request due although there is no message.
func (c *Conn) poll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == open {
		c.polling = true
		c.wake()
	}
}

// stopTimers stops all timers. c.mu is held.
func (c *Conn) stopTimers() {
	x := c.extra
	if x == nil {
		return
	}
	for _, t := range []*time.Timer{x.poll, x.keptTimer, x.delayedTimer} {
		if t != nil {
			t.Stop()
		}
	}
	x.poll, x.keptTimer, x.delayedTimer, x.kept, x.delayed = nil, nil, nil, nil, nil
}

// keepClientAlive sets the message that the client gets while it is idle. A nil frame ends it.
func (c *Conn) keepClientAlive(frame []byte, every time.Duration, regular bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if frame == nil && c.extra == nil || !c.phase.changes() {
		return
	}
	x := c.extras()
	if x.keptTimer != nil {
		x.keptTimer.Stop()
	}
	x.kept, x.keptEvery, x.keptRegular, x.keptTimer = frame, every, regular, nil
	if frame != nil {
		x.keptTimer = time.AfterFunc(every, c.sendKept)
	}
}

// sendKept sends the message for an idle client.
func (c *Conn) sendKept() {
	c.mu.Lock()
	x := c.extra
	frame := x.kept
	if frame != nil && x.keptTimer != nil {
		x.keptTimer.Reset(x.keptEvery)
	}
	c.mu.Unlock()
	if frame != nil {
		c.Send(frame, c.session.Limits().QueuePerConnection)
	}
}

// restartIdle records that the client got a message.
func (c *Conn) restartIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.extra; x != nil && x.keptTimer != nil && !x.keptRegular {
		x.keptTimer.Reset(x.keptEvery)
	}
}

// sendLater sends a frame after a time, and an earlier one of this kind at once.
func (c *Conn) sendLater(frame []byte, after time.Duration) {
	c.flushDelayed()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.phase.changes() {
		return
	}
	x := c.extras()
	x.delayed = frame
	x.delayedTimer = time.AfterFunc(after, c.flushDelayed)
}

// flushDelayed sends the message that waits for its time.
func (c *Conn) flushDelayed() {
	c.mu.Lock()
	var frame []byte
	if x := c.extra; x != nil && x.delayed != nil {
		frame, x.delayed = x.delayed, nil
		x.delayedTimer.Stop()
	}
	c.mu.Unlock()
	if frame != nil {
		c.Send(frame, c.session.Limits().QueuePerConnection)
	}
}
