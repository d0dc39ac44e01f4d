package lanes

import (
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// laneSize is how many bytes of events may wait in a lane before Intercept does, and laneWait how long that waits for plugins: then they
	// are too slow for what comes, and events of their groups are dropped until the lane is empty, or they would hold up all others.
	laneSize = 8 << 20
	laneWait = time.Second
	// eventSize is what an event counts for besides its text.
	eventSize = 256
	// What comes out of the plugins leaves in batches of forwardAtOnce events, and after forwardWait at the latest.
	forwardAtOnce = 64
	forwardWait   = time.Millisecond
)

// lane is a queue of events before their plugins, and the goroutine that takes them through.
type lane struct {
	filter *Filter

	mu      sync.Mutex
	filled  sync.Cond
	drained sync.Cond
	events  []relay.Event
	bytes   int
	closed  bool
	slow    bool // the plugins are too slow: what finds the lane full is dropped

	// Of the time that the worker has waited for the fan-out, which is no fault of plugins.
	forwarding time.Time     // since when it does now; zero if it does not
	forwarded  time.Duration // in all before

	// The groups of events that wait, and of those that the worker has.
	queued, working map[string]struct{}
	// changes under way to the pipeline; unsettled from the first until the lane has been empty after the last.
	changes   int
	unsettled bool
}

func newLane(f *Filter) *lane {
	l := &lane{filter: f, queued: map[string]struct{}{}, working: map[string]struct{}{}}
	l.filled.L, l.drained.L = &l.mu, &l.mu
	return l
}

// push adds events of one group if it has plugins, or if earlier events of it are still in the lane, and reports whether that is so. It waits
// while the lane is full, and drops them if plugins do not make room. The pipeline may change until the lane is locked and while it waits, and the lane may settle on that: only what
// holds then counts, or a later event would go past this one.
func (l *lane) push(run []relay.Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var began time.Time
	var forwarded time.Duration
	for {
		if !l.holds(run[0].Group) && !l.filter.pipeline.Matches(run[0].Group) {
			return false
		}
		if l.bytes < laneSize || l.closed {
			break
		}
		now := time.Now()
		switch waited := now.Sub(began); {
		case l.slow:
		case began.IsZero(), waited >= laneWait && 2*(l.waitedFor(now)-forwarded) > waited:
			began, forwarded = now, l.waitedFor(now)
			wake := time.AfterFunc(laneWait, l.drained.Broadcast)
			defer wake.Stop()
		case waited >= laneWait:
			l.slow = true
		}
		if l.slow {
			l.filter.overflow(run)
			return true
		}
		l.drained.Wait()
	}
	if !l.closed {
		l.add(run)
	}
	return true
}

// waitedFor is how long the worker has waited for the fan-out so far.
func (l *lane) waitedFor(now time.Time) time.Duration {
	if l.forwarding.IsZero() {
		return l.forwarded
	}
	return l.forwarded + now.Sub(l.forwarding)
}

// forward hands events to the fan-out.
func (l *lane) forward(events []relay.Event) {
	if len(events) == 0 {
		return
	}
	l.mu.Lock()
	l.forwarding = time.Now()
	l.mu.Unlock()
	l.filter.forward(events)
	l.mu.Lock()
	l.forwarded += time.Since(l.forwarding)
	l.forwarding = time.Time{}
	l.mu.Unlock()
}

// holds reports whether events of a group are in the lane.
func (l *lane) holds(group string) bool {
	_, queued := l.queued[group]
	_, working := l.working[group]
	return queued || working
}

func (l *lane) add(run []relay.Event) {
	if len(l.events) == 0 {
		l.filled.Signal()
	}
	l.queued[run[0].Group] = struct{}{}
	l.events = append(l.events, run...)
	for i := range run {
		l.bytes += eventSize + len(run[i].Text)
	}
}

// take waits for events and takes all of them; spare is reused for the next ones. It returns nil once the lane is closed.
func (l *lane) take(spare []relay.Event) []relay.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.working)
	for len(l.events) == 0 && !l.closed {
		if l.unsettled && l.changes == 0 {
			l.unsettled = false
			l.filter.settling.Add(-1)
		}
		l.filled.Wait()
	}
	if l.closed {
		return nil
	}
	events := l.events
	l.events, l.bytes, l.slow = spare[:0], 0, false
	l.queued, l.working = l.working, l.queued
	l.drained.Broadcast()
	return events
}

// run is the lane's goroutine.
func (l *lane) run() {
	f := l.filter
	var events, out []relay.Event
	var outputs []plugins.Output
	for {
		if events = l.take(events); events == nil {
			return
		}
		last := time.Now()
		for i := range events {
			outputs, out = f.process(&events[i], outputs, out)
			if len(out) >= forwardAtOnce || time.Since(last) > forwardWait {
				l.forward(out)
				clear(out)
				out, last = out[:0], time.Now()
			}
		}
		l.forward(out)
		clear(out)
		clear(outputs[:cap(outputs)])
		clear(events)
		out = out[:0]
	}
}

// unsettle announces a change to the pipeline.
func (l *lane) unsettle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
	if !l.unsettled {
		l.unsettled = true
		l.filter.settling.Add(1)
	}
}

// settle ends a change.
func (l *lane) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes--
	l.filled.Signal()
}

func (l *lane) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.events)
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.filled.Broadcast()
	l.drained.Broadcast()
}
