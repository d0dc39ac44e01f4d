package backplane

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// This file has the methods of a queue that belongs to a stream: its events are numbered, and stay in the queue until
// the peer has acknowledged them.

// released describes events that were sent, and dropped from a full queue before the peer had acknowledged them.
type released struct {
	ranges []numberRange
	lostGroups
	events  []releasedEvent
	cropped bool // there were more than maxReleased
}

// releasedEvent identifies one event.
type releasedEvent struct {
	number   uint64
	group    string
	position relay.Position
}

// numberRange is the numbers from first to last.
type numberRange struct{ first, last uint64 }

// maxRanges bounds the ranges; more of them are counted as if nothing was between. maxReleased bounds the events that
// are known one by one.
const maxRanges, maxReleased = 64, 1 << 16

func (r *released) add(number uint64, e *event) {
	if r.cropped = r.cropped || len(r.events) == maxReleased; r.cropped {
		r.events = nil
	} else {
		r.events = append(r.events, releasedEvent{number, e.group, e.position})
	}
	n := len(r.ranges)
	if n > 0 && (r.ranges[n-1].last+1 == number || n == maxRanges) {
		r.ranges[n-1].last = number
	} else {
		r.ranges = append(r.ranges, numberRange{number, number})
	}
	r.lostGroups.add(e.group)
}

// behind returns the count of events behind a number.
func (r *released) behind(number uint64) (count uint64) {
	for _, x := range r.ranges {
		if x.last > number {
			count += x.last - max(x.first-1, number)
		}
	}
	return count
}

// lossReport is a report for the peer about events that it does not get.
type lossReport struct {
	number    uint64 // 0: there is none
	count     uint64
	recovered uint64 // events of the series of drops that has ended; also without a report
	groups    []string
}

// nextNumbered returns the number of the next event, and events of up to most bytes from there on, which count as sent.
// It returns none if another link has taken the queue, or if the pacer lets none pass. With the last event comes the
// report of all losses.
func (q *queue) nextNumbered(of *queue, events []*event, most int, now time.Time) (
	number uint64, _ []*event, loss lossReport,
) {
	q.mu.Lock()
	if q.signal != of.signal {
		q.mu.Unlock()
		return 0, events, loss
	}
	expired := q.expire(now)
	defer func() {
		q.mu.Unlock()
		q.age.report(expired)
	}()
	number = q.base + uint64(q.sent)
	limited := q.sent < q.count && q.pace.update(now, q.events[(q.first+q.sent)%len(q.events)], q.sentBytes)
	paused := false
	for size := 0; q.sent < q.count && size < most; q.sent++ {
		e := q.events[(q.first+q.sent)%len(q.events)]
		if limited && !q.pace.permits(now, e) {
			q.wakeLater(now)
			paused = true
			break
		}
		size += e.cost()
		q.sentBytes += e.cost()
		events = append(events, e)
	}
	if q.sent < q.count {
		if !paused {
			q.wake()
		}
		if !q.reports.isDue() {
			return number, events, loss
		}
	}
	q.loseMissed()
	if q.dropped > 0 {
		series := q.series
		loss.count, loss.number = q.dropped, q.reports.add(q.dropped, q.lost)
		_, loss.groups = q.takeLost()
		if q.sent < q.count {
			q.series = series
		} else {
			loss.recovered = series
		}
	} else if q.sent == q.count { // reports have told of all drops
		loss.recovered, q.series = q.series, 0
	}
	return number, events, loss
}

// acknowledge frees the events up to a number, and the losses up to the number of a report.
func (q *queue) acknowledge(number, report uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reports.confirm(report)
	if number < q.base+uint64(q.sent) { // otherwise, the peer acknowledges events that it was never sent
		q.free(number)
	}
	if q.pace.active && q.pace.acknowledged(time.Now()) {
		q.wake()
	}
}

// free removes the events up to a number. q.mu is held.
func (q *queue) free(number uint64) {
	for q.count > 0 && q.base <= number {
		at := q.base
		e := q.pop()
		if before, ok := q.holes[e.group]; ok && at > before {
			delete(q.holes, e.group)
		}
	}
	if q.released.behind(number) == 0 {
		q.released = released{}
	}
	q.shrink()
}

// attach hands the queue to a link whose peer has the events up to the number last, and the losses up to the number of
// a report. All others are sent, again if need be; the groups with dropped events wait for refills, which attach
// returns. Before the link can send an event, announce is called with the numbers of the first event and of the last
// one in the queue. attach also returns the number of released events that are lost.
func (q *queue) attach(
	to *queue, last, report uint64, announce func(first, until uint64, list []*refill),
) (lost uint64, list []*refill) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.suspendRefetch()
	q.reports.confirm(report)
	for _, r := range q.reports.take() {
		q.dropped += r.count
		q.lost.merge(r.lostGroups)
	}
	if lost = q.released.behind(last); lost > 0 && !q.missReleased(last) {
		q.dropped += lost
		q.lost.merge(q.released.lostGroups)
	} else {
		lost = 0
	}
	q.released, q.refilled = released{}, 0
	last = min(last, q.base+uint64(q.sent)-1)
	q.free(last)
	q.sent, q.sentBytes = 0, 0
	list = q.beginRefetch()
	q.renumber(last)
	// A link that takes the place of a slow one has no more time: every event would be late by as much.
	if outage := !q.absent.IsZero() && time.Since(q.absent) > redialTime; outage || len(list) > 0 {
		q.age.suspend(q.refetches)
	}
	q.absent = time.Time{}
	announce(q.base, q.base+uint64(q.count)-1, list)
	if q.answer != nil {
		q.tellHoles()
	}
	q.signal = to.signal
	q.wake()
	return lost, list
}

// missReleased records the released events behind a number like others that were dropped, and reports whether they are
// known. q.mu is held.
func (q *queue) missReleased(last uint64) bool {
	if !q.refetches || q.released.cropped {
		return false
	}
	for _, e := range q.released.events {
		if e.number > last {
			q.missOrLose(e.group, e.position, faultLink)
		}
	}
	return true
}

// detach takes the queue from a link, and returns the number of the last event.
func (q *queue) detach() (last uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.signal, q.answer, q.absent = nil, nil, time.Now()
	q.suspendRefetch()
	return q.base + uint64(q.count) - 1
}

// noteRefilled returns the number of the last event. If the next link would not begin the refill again that ends with
// it, isRefilling reports so until the peer has acknowledged that event.
func (q *queue) noteRefilled(once bool) (last uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	last = q.base + uint64(q.count) - 1
	if once {
		q.refilled = last
	}
	return last
}

// forget removes all events.
func (q *queue) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.count > 0 {
		q.pop()
	}
	q.dropped, q.series, q.lost, q.released = 0, 0, lostGroups{}, released{}
	q.missed, q.refills, q.heldBytes = nil, nil, 0
	q.reports.take()
	q.shrink()
}

// oldestSent returns the age of the oldest event that was sent and not acknowledged, 0 if there is none.
func (q *queue) oldestSent(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sent == 0 {
		return 0
	}
	return now.Sub(q.events[q.first].since)
}

// unsent returns the number of events that were never sent.
func (q *queue) unsent() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count - q.sent
}

// awaitsAck reports whether events were sent that the peer has not acknowledged.
func (q *queue) awaitsAck() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sent > 0
}

// close empties the queue for good. It returns the number of events that it had, the number of dropped ones that the
// peer has not confirmed a report of, and the groups of both.
func (q *queue) close() (events, untold uint64, groups lostGroups) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.suspendRefetch()
	for _, r := range q.refills {
		q.giveUp([]*refill{r})
	}
	q.loseMissed()
	groups, untold = q.lost, q.dropped+q.released.behind(0)
	groups.merge(q.released.lostGroups)
	for _, r := range q.reports.take() {
		untold += r.count
		groups.merge(r.lostGroups)
	}
	events = uint64(q.count)
	for q.count > 0 {
		groups.add(q.pop().group)
	}
	q.flow, q.dropped, q.lost, q.released = flowClosed, 0, lostGroups{}, released{}
	return events, untold, groups
}

// addLoss adds events that the peer missed and that were never queued.
func (q *queue) addLoss(events int, groups lostGroups) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped += uint64(max(events, 1))
	q.lost.merge(groups)
	q.wake()
}
