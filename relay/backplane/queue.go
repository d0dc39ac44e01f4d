package backplane

import (
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// event is one event for peers, shared between their queues.
type event struct {
	group    string
	kind     string // the event's Type; only relays with the feature types get events with one
	sender   string
	text     []byte // as in the layer: the frame for broadcast peers, the payload for others
	since    time.Time
	sent     int64          // Unix microseconds, by the emitter; 0 if unknown
	position relay.Position // in this node's history; zero if there is none
	refill   bool           // read from the history for one peer
	adopted  bool           // from a dead node's mailbox

	once  sync.Once
	frame []byte // of the dialect relay
}

// newEvent returns an event that is queued now.
func newEvent(ev *relay.Event) *event {
	e := &event{
		group: ev.Group, kind: ev.Type, sender: ev.Sender, text: ev.Text, since: time.Now(), position: ev.Position.Entry(),
		adopted: ev.Adopted != relay.NotAdopted,
	}
	if !ev.Sent.IsZero() {
		e.sent = ev.Sent.UnixMicro()
	}
	return e
}

// cost is the weight of an event in a queue, in bytes.
func (e *event) cost() int { return len(e.text) + len(e.group) + len(e.kind) + len(e.sender) + 96 }

// queue holds control messages and events for one peer. Control messages are never dropped. The oldest
// events are dropped when the queue is full, and when they have been in it for too long (age.go).
//
// The queue of a stream (stream.go) keeps sent events until the peer has acknowledged them. These are dropped first:
// they are lost only if the link breaks as well.
// See docs/decisions/backplane.md#why-does-the-peer-queue-count-bytes-and-share-events
type queue struct {
	signal chan struct{} // holds one token while next may return something

	mu           sync.Mutex
	limit        int
	control      [][]byte
	controlBytes int      // bytes in control
	overflow     func()   // called when controlBytes exceeds maxControlBytes
	events       []*event // a ring: count events from first on
	first        int
	count        int
	bytes        int
	writing      bool // the result of the last next is not written yet
	flow         flow
	dropped      uint64 // events that no report has
	series       uint64 // events that were dropped since the queue was last empty
	lost         lostGroups
	age          ageLimit

	// These fields concern streams.
	base      uint64 // number of the oldest event in the queue, or of the next one
	sent      int    // leading events that were sent and are not acknowledged
	sentBytes int    // of these
	released  released
	reports   reports // of losses, until the peer confirms them
	pace      pacer
	absent    time.Time // since when no link has the queue; zero: one has
	losses
	refills   map[string]*refill // by group: live events of these groups are held
	heldBytes int                // of these
	reading   int                // reads for refills that the next link would not begin again, until they are answered
	refilled  uint64             // number of the last event of a refill that the next link would not begin again
	answer    func(m message)    // tells the peer about refills; nil without a link
}

// flow is the treatment of events; messages about the connection always pass.
type flow uint8

const (
	flowOpen   flow = iota // events leave
	flowHeld               // events stay in the queue
	flowClosed             // events are discarded, for good
)

func newQueue(limit int) *queue {
	return &queue{signal: make(chan struct{}, 1), limit: limit}
}

func (q *queue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// push adds an event. It returns the number of events for which there was no room any more, and whether these begin a
// series of drops.
func (q *queue) push(e *event) (dropped int, first bool) {
	q.mu.Lock()
	if q.flow == flowClosed {
		q.mu.Unlock()
		return 0, false
	}
	expired := q.expire(e.since)
	dropped, first = q.admit(e)
	q.mu.Unlock()
	q.age.report(expired)
	return dropped, first
}

// append adds an event. q.mu is held.
func (q *queue) append(e *event) (dropped int, first bool) {
	if q.count == len(q.events) {
		grown := make([]*event, max(64, 2*q.count))
		for i := range q.count {
			grown[i] = q.events[(q.first+i)%len(q.events)]
		}
		q.events, q.first = grown, 0
	}
	q.events[(q.first+q.count)%len(q.events)] = e
	q.count++
	q.bytes += e.cost()
	for q.bytes > q.limit && q.count > 1 {
		dropped += q.drop(faultQueue)
	}
	first = q.addDropped(dropped)
	if q.flow != flowHeld {
		q.wake()
	}
	return dropped, first
}

// drop removes the oldest event, and returns 1 if the peer does not get it. An event that was sent is lost only if the
// link breaks, and events of some streams are counted later (refetch.go). q.mu is held.
func (q *queue) drop(why fault) (lost int) {
	number, wasSent := q.base, q.sent > 0
	e := q.pop()
	switch {
	case wasSent:
		q.released.add(number, e)
		return 0
	case q.refetches:
		q.missOrLose(e.group, e.position, why)
		return 0
	}
	q.lost.add(e.group)
	return 1
}

// addDropped counts lost events, and reports whether they begin a series. q.mu is held.
func (q *queue) addDropped(n int) (first bool) {
	first = n > 0 && q.series == 0
	q.dropped += uint64(n)
	q.series += uint64(n)
	return first
}

// pop removes the oldest event. q.mu is held and the queue is not empty.
func (q *queue) pop() *event {
	e := q.events[q.first]
	q.events[q.first] = nil
	q.first = (q.first + 1) % len(q.events)
	q.count--
	q.bytes -= e.cost()
	q.base++
	if q.sent > 0 {
		q.sent--
		q.sentBytes -= e.cost()
	}
	return e
}

// maxControlBytes bounds the queued control messages: the interest in 200,000 groups, twice.
const maxControlBytes = 64 << 20

// pushControl adds a control message.
func (q *queue) pushControl(message []byte) {
	q.mu.Lock()
	q.control = append(q.control, message)
	q.controlBytes += len(message) + 64
	over := q.controlBytes > maxControlBytes
	q.mu.Unlock()
	if over && q.overflow != nil {
		q.overflow()
	}
	q.wake()
}

// next removes all control messages, and events of up to most bytes. If that ends a series of drops, recovered is
// the number of dropped events, and groups lists their groups, unless these are too many.
func (q *queue) next(events []*event, most int) (control [][]byte, _ []*event, recovered uint64, groups []string) {
	q.mu.Lock()
	expired := q.expireNow()
	defer func() {
		q.mu.Unlock()
		q.age.report(expired)
	}()
	control, q.control, q.controlBytes = q.control, nil, 0
	q.writing = true
	if q.flow == flowHeld {
		return control, events, 0, nil
	}
	events, recovered, groups = q.take(events, most)
	return control, events, recovered, groups
}

// take removes events of up to most bytes. The other results are as of next. q.mu is held.
func (q *queue) take(events []*event, most int) (_ []*event, recovered uint64, groups []string) {
	for size := 0; q.count > 0 && size < most; {
		e := q.pop()
		size += e.cost()
		events = append(events, e)
	}
	if q.count > 0 {
		q.wake()
		return events, 0, nil
	}
	q.shrink()
	recovered, groups = q.takeLost()
	return events, recovered, groups
}

// shrink releases the memory of a burst. q.mu is held.
func (q *queue) shrink() {
	if q.count == 0 && len(q.events) > 1024 {
		q.events, q.first = nil, 0
	}
}

// takeLost returns the number of dropped events that were not reported yet, and their groups. q.mu is held.
func (q *queue) takeLost() (n uint64, groups []string) {
	if q.dropped == 0 {
		return 0, nil
	}
	n, q.dropped, q.series = q.dropped, 0, 0
	groups, q.lost = q.lost.list(), lostGroups{}
	return n, groups
}

// abandon empties and closes the queue. It returns the number of queued events, the number of dropped events that
// were not reported, and the groups of both.
func (q *queue) abandon() (events int, untold uint64, groups lostGroups) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, untold, groups = q.count, q.dropped, q.lost
	for q.count > 0 {
		groups.add(q.pop().group)
	}
	q.flow, q.dropped, q.lost = flowClosed, 0, lostGroups{}
	return events, untold, groups
}

// markWritten records that the result of the last next is written.
func (q *queue) markWritten() {
	q.mu.Lock()
	q.writing = false
	q.mu.Unlock()
}

// idle reports whether nothing is queued or being written.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count == q.sent && len(q.control) == 0 && !q.writing
}

// setFlow changes the treatment of events. A closed queue stays closed.
func (q *queue) setFlow(f flow) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flow == flowClosed {
		return
	}
	q.flow = f
	switch f {
	case flowOpen:
		q.wake()
	case flowClosed:
		q.events, q.first, q.count, q.bytes = nil, 0, 0, 0
	}
}

// load returns the number and bytes of events that were not sent, and the time when the oldest was queued.
func (q *queue) load() (events, bytes int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.count > q.sent {
		since = q.events[(q.first+q.sent)%len(q.events)].since
	}
	return q.count - q.sent, q.bytes - q.sentBytes, since
}

// The following methods are for a queue that outlives the links to a Python node.

// handTo makes the queue wake the writer of a link.
func (q *queue) handTo(to *queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.age.suspend(false)
	q.signal = to.signal
	q.wake()
}

// nextPaced removes events of up to most bytes, as many as the pacer lets pass, and none if another link has the queue.
func (q *queue) nextPaced(of *queue, events []*event, most int, now time.Time) (_ []*event, recovered uint64) {
	q.mu.Lock()
	if q.signal != of.signal {
		q.mu.Unlock()
		return events, 0
	}
	expired := q.expire(now)
	defer func() {
		q.mu.Unlock()
		q.age.report(expired)
	}()
	if q.count > 0 && q.pace.update(now, q.events[q.first], 0) {
		for size := 0; q.count > 0 && size < most; {
			if !q.pace.permits(now, q.events[q.first]) {
				q.wakeLater(now)
				return events, 0
			}
			size += q.events[q.first].cost()
			events = append(events, q.pop())
		}
		most = 0
	}
	events, recovered, _ = q.take(events, most)
	return events, recovered
}

// putBack adds events before all others, and returns as push does.
func (q *queue) putBack(events []*event) (dropped int, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]*event, 0, len(events)+q.count)
	all = append(all, events...)
	for q.count > 0 {
		all = append(all, q.pop())
	}
	for _, e := range all {
		n, begins := q.append(e)
		dropped, first = dropped+n, first || begins
	}
	return dropped, first
}
