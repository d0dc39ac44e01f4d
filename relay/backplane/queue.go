package backplane

import (
	"sync"
	"time"
)

// event is one event on its way to peers, shared between their queues.
type event struct {
	group string
	text  []byte // as the layer had it: for a broadcast peer the frame, for others the payload
	since time.Time

	once  sync.Once
	frame []byte // of the dialect relay
}

// cost is what an event counts in a queue, in bytes.
func (e *event) cost() int { return len(e.text) + len(e.group) + 64 }

// queue holds what waits for one peer: messages about the connection, which are never dropped, and events, of
// which the oldest are dropped when there are too many.
type queue struct {
	signal chan struct{} // holds one token while there may be something to take

	mu           sync.Mutex
	limit        int
	control      [][]byte
	controlBytes int      // bytes in control
	overflow     func()   // called when these are too many
	events       []*event // a ring: count events from first on
	first        int
	count        int
	bytes        int
	writing      bool // what was taken last is not known to be written
	flow         flow
	dropped      uint64 // since the queue was last empty
	lost         lostGroups
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

// push adds an event. It returns how many were dropped for it, and whether these are the first of a series.
func (q *queue) push(e *event) (dropped int, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flow == flowClosed {
		return 0, false
	}
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
		q.lost.add(q.pop().group)
		dropped++
	}
	if dropped > 0 {
		first = q.dropped == 0
		q.dropped += uint64(dropped)
	}
	if q.flow != flowHeld {
		q.wake()
	}
	return dropped, first
}

// pop removes the oldest event. q.mu is held and there is one.
func (q *queue) pop() *event {
	e := q.events[q.first]
	q.events[q.first] = nil
	q.first = (q.first + 1) % len(q.events)
	q.count--
	q.bytes -= e.cost()
	return e
}

// maxSaid bounds what waits to be said about a connection, in bytes: all that 200,000 wishes take, twice.
const maxControlBytes = 64 << 20

// say adds a message about the connection.
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

// take removes what waits: all messages, and events up to most bytes. When that ends a series of drops, recovered is
// how many there were, and groups are theirs, none if they are too many.
func (q *queue) next(events []*event, most int) (control [][]byte, _ []*event, recovered uint64, groups []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	control, q.control, q.controlBytes = q.control, nil, 0
	q.writing = true
	if q.flow == flowHeld {
		return control, events, 0, nil
	}
	for size := 0; q.count > 0 && size < most; {
		e := q.pop()
		size += e.cost()
		events = append(events, e)
	}
	if q.count > 0 {
		q.wake()
		return control, events, 0, nil
	}
	if len(q.events) > 1024 { // do not keep what one burst needed
		q.events = nil
		q.first = 0
	}
	if q.dropped > 0 {
		recovered, q.dropped = q.dropped, 0
		groups, q.lost = q.lost.list(), lostGroups{}
	}
	return control, events, recovered, groups
}

// abandon empties the queue: it returns how many events were in it, and how many more had been dropped and not told of,
// with the groups of both.
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

// wrote notes that what was taken last is written.
func (q *queue) markWritten() {
	q.mu.Lock()
	q.writing = false
	q.mu.Unlock()
}

// idle reports whether nothing waits or is being written.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count == 0 && len(q.control) == 0 && !q.writing
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

// load is how many events and bytes wait, and since when the oldest does.
func (q *queue) load() (events, bytes int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.count > 0 {
		since = q.events[q.first].since
	}
	return q.count, q.bytes, since
}
