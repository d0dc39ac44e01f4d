package backplane

import (
	"time"

	"github.com/coder/websocket"
)

// linked reports whether there is a link to the node, dialed by this node or by the other. b.mu is held.
func (d *dialer) linked() bool {
	d.mu.Lock()
	has, node := d.link != nil || d.state == StateRedundant, d.node
	d.mu.Unlock()
	return has || node != "" && d.b.findLink(node) != nil
}

// leave ends the dialer of a node that is no longer a peer. Events that are queued for the node are written first, and
// the close frame tells the node that this one does not come back.
func (d *dialer) leave() {
	d.left.Store(true)
	d.mu.Lock()
	l := d.link
	d.mu.Unlock()
	if l != nil {
		l.flushAcknowledged()
		l.closeWith(websocket.StatusGoingAway, "peer removed")
	}
	d.cancel()
	<-d.done
	d.b.log.Info("peer removed", "peer", d.target.URL)
}

// flushAcknowledged waits up to flushWait until the peer has acknowledged what was queued for it, as far as the peer
// acknowledges events, and acknowledges the peer's events. Otherwise the end of the link would count the last ones as
// lost.
func (l *link) flushAcknowledged() {
	l.hurry()
	deadline := time.Now().Add(flushWait)
	for !l.acknowledged() && time.Now().Before(deadline) {
		if !sleep(l.ctx, 2*time.Millisecond) {
			return
		}
	}
	l.acknowledgeNow()
	for !l.idle() && time.Now().Before(deadline.Add(closeTimeout)) {
		if !sleep(l.ctx, 2*time.Millisecond) {
			return
		}
	}
}

// acknowledgeNow acknowledges all delivered events.
func (l *link) acknowledgeNow() {
	if l.in == nil {
		return
	}
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	if l.in.asked == l && l.in.delivered.Load() > l.in.acked {
		l.sendAck()
	}
}

// acknowledged reports whether nothing is queued, being written or unacknowledged.
func (l *link) acknowledged() bool {
	if !l.idle() {
		return false
	}
	s := l.stream.Load()
	return s == nil || !s.has(l) || s.queue.unacknowledged() == 0
}

// unacknowledged returns the number of events that a relay has not acknowledged, sent or not.
func (q *queue) unacknowledged() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}
