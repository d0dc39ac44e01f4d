package lanes

import (
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// laneCapacity is how many bytes of events a lane queues before push blocks.
	laneCapacity = 8 << 20
	// eventOverhead is the size of an event in addition to the text, in bytes.
	eventOverhead = 256
	// Results of plugins leave in batches of forwardBatch events, and after forwardDelay at the latest.
	forwardBatch = 64
	forwardDelay = time.Millisecond
)

// lanePhase determines the fate of an event of a group with plugins.
type lanePhase uint8

const (
	laneOpen       lanePhase = iota // the event is queued; push blocks while the lane is full
	laneOverloaded                  // the event is dropped, until the worker takes the full queue
	laneClosed                      // the event is dropped
)

// lane is a queue of events that wait for their plugins, and the goroutine that takes them through.
type lane struct {
	lanes *Lanes

	mu       sync.Mutex // guards the fields below
	nonEmpty sync.Cond  // the worker waits for events
	emptied  sync.Cond  // push waits for room
	phase    lanePhase
	events   []relay.Event
	bytes    int
	// queued and processing hold the groups of the events that wait, and of those that the worker has taken.
	queued, processing map[string]struct{}

	fanOut     fanOutClock
	settlement settlement
}

func newLane(ls *Lanes) *lane {
	l := &lane{lanes: ls, queued: map[string]struct{}{}, processing: map[string]struct{}{}}
	l.nonEmpty.L, l.emptied.L = &l.mu, &l.mu
	return l
}

// push queues a run of events of a group if the group has plugins, or if earlier events of the group are still in the
// lane, and reports whether that is the case. push blocks while the lane is full. If the plugins do not make room in
// time, the events are dropped.
func (l *lane) push(run []relay.Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var wait roomWait
	defer wait.stop()
	for {
		// Checked again after each wait: the pipeline may have changed and the lane may have settled meanwhile. With
		// a stale answer, a later event of the group could overtake this run.
		if !l.takes(run[0].Group) {
			return false
		}
		switch {
		case l.phase == laneClosed:
			return true
		case l.bytes < laneCapacity:
			l.add(run)
			return true
		case l.phase == laneOverloaded || wait.expired(l, time.Now()):
			l.phase = laneOverloaded
			l.lanes.dropSlow(run)
			return true
		}
		l.emptied.Wait()
	}
}

// takes reports whether events of a group must go through the lane.
func (l *lane) takes(group string) bool {
	return l.holds(group) || l.lanes.pipeline.Matches(group)
}

// holds reports whether events of a group are in the lane.
func (l *lane) holds(group string) bool {
	if _, ok := l.queued[group]; ok {
		return true
	}
	_, ok := l.processing[group]
	return ok
}

// add queues events of a group.
func (l *lane) add(run []relay.Event) {
	if len(l.events) == 0 {
		l.nonEmpty.Signal()
	}
	l.queued[run[0].Group] = struct{}{}
	l.events = append(l.events, run...)
	for i := range run {
		l.bytes += eventOverhead + len(run[i].Text)
	}
}

// take waits for events and returns all of them, or nil once the lane is closed. The slice spare is reused for the next
// events.
func (l *lane) take(spare []relay.Event) []relay.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.processing)
	for len(l.events) == 0 && l.phase != laneClosed {
		l.settle(laneEmpty)
		l.nonEmpty.Wait()
	}
	if l.phase == laneClosed {
		return nil
	}
	events := l.events
	l.events, l.bytes, l.phase = spare[:0], 0, laneOpen
	l.queued, l.processing = l.processing, l.queued
	l.emptied.Broadcast()
	return events
}

// run is the lane's worker, which takes events through their plugins and forwards the results.
func (l *lane) run() {
	var events, out []relay.Event
	var outputs []plugins.Output
	for {
		if events = l.take(events); events == nil {
			return
		}
		last := time.Now()
		for i := range events {
			outputs, out = l.lanes.process(&events[i], outputs, out)
			if len(out) >= forwardBatch || time.Since(last) > forwardDelay {
				out, last = l.forward(out), time.Now()
			}
		}
		out = l.forward(out)
		clear(outputs[:cap(outputs)])
		clear(events)
	}
}

// forward hands events to the fan-out and returns the slice, emptied, for reuse.
func (l *lane) forward(events []relay.Event) []relay.Event {
	if len(events) == 0 {
		return events
	}
	l.mu.Lock()
	l.fanOut.start(time.Now())
	l.mu.Unlock()
	l.lanes.forward(events)
	l.mu.Lock()
	l.fanOut.stop(time.Now())
	l.mu.Unlock()
	clear(events)
	return events[:0]
}

func (l *lane) queueLength() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.events)
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase = laneClosed
	l.nonEmpty.Broadcast()
	l.emptied.Broadcast()
}
