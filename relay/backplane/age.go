package backplane

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// redialTime is added to the age of events: a link that returns just in time takes as long to carry events.
const redialTime = 5 * time.Second

// ageLimit bounds the time for which an event may be in a queue. Events are in the order of their age, so that it is
// enough to look at the oldest one, whenever the queue is used.
// See docs/decisions/backplane.md#when-does-an-event-for-a-peer-expire
type ageLimit struct {
	limit     time.Duration               // 0: none
	suspended time.Time                   // no event expires until then: a new link is catching up
	expired   func(count int, first bool) // is told of expired events, without a lock
}

// expiredEvents are events that have just been dropped.
type expiredEvents struct {
	count int
	first bool // they begin a series of drops
}

// expire drops the events that are too old. q.mu is held; report must follow without it.
func (q *queue) expire(now time.Time) (expired expiredEvents) {
	a := &q.age
	if a.limit == 0 || q.count == 0 || now.Sub(q.events[q.first].since) <= a.limit+redialTime {
		return expired
	}
	if now.Before(a.suspended) {
		return expired
	}
	for q.count > 0 && now.Sub(q.events[q.first].since) > a.limit+redialTime {
		expired.count += q.drop(faultExpired)
	}
	expired.first = q.addDropped(expired.count)
	if expired.count > 0 && q.flow != flowHeld {
		q.wake()
	}
	return expired
}

// expireNow drops the events that are too old now. q.mu is held; report must follow without it.
func (q *queue) expireNow() (expired expiredEvents) {
	if q.age.limit == 0 || q.count == 0 {
		return expired
	}
	return q.expire(time.Now())
}

// sweep drops the events that are too old, and counts them.
func (q *queue) sweep() {
	q.mu.Lock()
	expired := q.expireNow()
	q.mu.Unlock()
	q.age.report(expired)
}

// suspend gives a new link time to send what was queued during a break that was not too long. A link that breaks again
// and again does not extend the age without end, unless dropped events are fetched in any case.
func (a *ageLimit) suspend(again bool) {
	if now := time.Now(); a.limit > 0 && (again || now.After(a.suspended.Add(a.limit))) {
		a.suspended = now.Add(a.limit / 2)
	}
}

// extend gives a link time to send a page of the history, and the events that were queued before it.
func (a *ageLimit) extend() {
	if until := time.Now().Add(a.limit / 2); until.After(a.suspended) {
		a.suspended = until
	}
}

// report tells about expired events. No lock is held.
func (a *ageLimit) report(e expiredEvents) {
	if e.count > 0 && a.expired != nil {
		a.expired(e.count, e.first)
	}
}

// sweepEvery is the time between looks at queues that are not in use: those without a link, or with one that stalls.
const sweepEvery = time.Second

// sweepQueues drops events that are too old from all queues until the backplane ends.
func (b *Backplane) sweepQueues() {
	for sleep(b.ctx, sweepEvery) {
		for _, l := range b.allLinks() {
			l.queue.sweep()
		}
		for _, s := range b.allStreams() {
			s.queue.sweep()
			s.countLosses()
		}
		for _, s := range b.allBacklogs() {
			s.queue.sweep()
		}
	}
}

// ageLimit returns the limit for a new queue, whose peer and link of tells.
func (b *Backplane) ageLimit(of func() (peer string, l *link)) ageLimit {
	age := b.settings.Load().QueueAge
	return ageLimit{limit: age, expired: func(count int, first bool) {
		peer, l := of()
		if l != nil {
			l.dropped.Add(uint64(count))
		}
		b.countExpired(peer, age, count, first)
	}}
}

// countExpired counts events that were queued for a peer for too long, and logs the first of a series.
func (b *Backplane) countExpired(peer string, age time.Duration, expired int, first bool) {
	b.stats.lose(peer, faultExpired, expired)
	b.hub.Lost(relay.Loss{Cause: relay.LossPeerQueue, Events: expired})
	if first {
		b.log.Warn("events for a peer expired", "peer", peer, "queue_age", age,
			"remedy", "check the network between the nodes")
	}
}
