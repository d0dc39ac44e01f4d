package backplane

import "time"

const (
	// catchUpAge is the age of the oldest queued event at which catching up begins, and caughtUpAge that at which it ends.
	catchUpAge, caughtUpAge = 500 * time.Millisecond, 100 * time.Millisecond
	// catchUpPace is the speed of catching up: events of so many seconds are sent in one.
	catchUpPace = 3
	// paceTick is the shortest pause for events whose turn has not come.
	paceTick = 20 * time.Millisecond
	// paceLead is the part of a backlog, by time, that may be sent at once after a pause. paceGap is the longest part
	// without events that takes time.
	paceLead, paceGap = 3 * paceTick * catchUpPace, time.Second
	// paceBurst is the number of bytes that may be sent at once whatever their age, and paceFloor the number of bytes per
	// second by which it is restored; for events of the history, which were not queued one after another, refillRate.
	paceBurst, paceFloor, refillRate = 256 << 10, 128 << 10, 1 << 20
	// paceWindow bounds the events that were sent while catching up and are not acknowledged, in bytes. A peer that has
	// acknowledged nothing for ackPatience gets more anyway: it may lack an event that was skipped.
	paceWindow, ackPatience = 2 << 20, 2 * time.Second
)

// pacer spreads a backlog over time. After an outage, events are sent in the order and with the pauses in which they
// were queued, but at catchUpPace: the peer's clients need to read no more than that much faster than without the
// outage. No event gets older by that than the oldest one was when catching up began. Without a backlog, a pacer does
// nothing. The queue's lock guards it. The zero value is ready for use.
// See docs/decisions/backplane.md#how-fast-does-a-peer-catch-up
type pacer struct {
	active   bool
	off      bool      // the node leaves: all events are sent at once
	upTo     time.Time // events that were queued until then may be sent
	tokens   int       // bytes that may be sent in addition
	last     time.Time // of the last update
	next     time.Time // no event may be sent before
	acked    time.Time // when the peer acknowledged something, or none was expected
	timer    *time.Timer
	throttle bool // the next events need an acknowledgment

	sent uint64 // number of the last event of the stream that was ever sent; earlier ones may be sent again
}

// update begins or ends catching up, by the oldest event that was not sent, and reports whether the pacer limits
// events. unacknowledged is the number of bytes in flight.
func (p *pacer) update(now time.Time, head *event, unacknowledged int) (limits bool) {
	age := now.Sub(head.since)
	switch {
	case p.off:
		return false
	case !p.active && age < catchUpAge && !head.refill:
		return false
	case p.active && age < caughtUpAge && !head.refill:
		p.active, p.throttle, p.next = false, false, time.Time{}
		return false
	case !p.active:
		p.active = true
		p.upTo, p.last, p.tokens, p.acked = head.since, now.Add(-paceTick), paceBurst, now
	}
	rate := paceFloor
	if head.refill {
		rate = refillRate
	}
	elapsed := min(now.Sub(p.last), time.Minute)
	p.last = now
	p.tokens = min(paceBurst, p.tokens+int(int64(rate)*elapsed.Microseconds()/1e6))
	p.upTo = p.upTo.Add(catchUpPace * elapsed)
	if least := head.since.Add(-paceGap); p.upTo.Before(least) {
		p.upTo = least
	}
	if most := head.since.Add(paceLead); p.upTo.After(most) {
		p.upTo = most
	}
	p.throttle = unacknowledged >= paceWindow && now.Sub(p.acked) < ackPatience
	return true
}

// permits reports whether an event may be sent now. If not, the queue asks again after a pause.
func (p *pacer) permits(now time.Time, e *event) bool {
	cost := e.cost()
	switch {
	case now.Before(p.next):
		return false
	case p.throttle:
		p.next = now.Add(ackPatience - now.Sub(p.acked))
		return false
	case !e.refill && !e.since.After(p.upTo):
		return true
	case p.tokens >= min(cost, paceBurst):
		p.tokens -= cost
		return true
	}
	lacking := time.Duration(min(cost, paceBurst)-p.tokens) * time.Second
	pause := lacking / refillRate
	if !e.refill {
		pause = min(lacking/paceFloor, e.since.Sub(p.upTo)/catchUpPace)
	}
	p.next = now.Add(max(pause, paceTick))
	return false
}

// acknowledged records that the peer has acknowledged events, and reports whether the next ones waited for that.
func (p *pacer) acknowledged(now time.Time) (waited bool) {
	if !p.active {
		return false
	}
	p.acked = now
	if waited = p.throttle; waited {
		p.throttle, p.next = false, time.Time{}
	}
	return waited
}

// wakeLater wakes the writer of a queue once the next event may be sent. The queue's lock is held.
func (q *queue) wakeLater(now time.Time) {
	p := &q.pace
	pause := p.next.Sub(now)
	if p.timer == nil {
		p.timer = time.AfterFunc(pause, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.wake()
		})
		return
	}
	p.timer.Reset(pause)
}

// hurry ends the pacing of the link's stream: the peer is left, or this node leaves.
func (l *link) hurry() {
	if s := l.stream.Load(); s != nil && s.has(l) {
		s.queue.hurry()
	}
	if s := l.backlog.Load(); s != nil {
		s.queue.hurry()
	}
}

// hurry ends the pacing for good: what is queued is sent while there is time.
func (q *queue) hurry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pace.off = true
	q.wake()
}
