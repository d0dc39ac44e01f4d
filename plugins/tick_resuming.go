package plugins

import (
	"sync"
	"sync/atomic"
)

// tickEvent is an event that a module emitted from on_tick.
type tickEvent struct {
	emission
	by        *module
	instance  int
	elsewhere bool   // the plugin is not bound to the group: the event precedes the next event of the instance
	after     string // with elsewhere: the group at whose turn the event continues
}

// tickTurn names the events that precede the same events.
type tickTurn struct {
	group    string // of events that the plugin is bound to
	instance int    // that has emitted all others; group is empty
}

func (e *tickEvent) turn() tickTurn {
	if e.elsewhere {
		return tickTurn{instance: e.instance}
	}
	return tickTurn{group: e.group}
}

// maxResuming and maxResumingBytes bound the events of ticks that wait for their turn. A plugin with so many is not
// ticked.
const (
	maxResuming      = 4096
	maxResumingBytes = 16 << 20
)

// resuming holds the events that a plugin emitted from on_tick until their turn comes. Methods are safe for concurrent
// use.
type resuming struct {
	count atomic.Int32 // of events, readable without the lock

	mu     sync.Mutex // guards the fields below
	byTurn map[tickTurn][]tickEvent
	bytes  int
}

// add adds an event and reports whether it is the only one of its turn.
func (r *resuming) add(e tickEvent) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addLocked(e)
}

func (r *resuming) addLocked(e tickEvent) (first bool) {
	if r.byTurn == nil {
		r.byTurn = map[tickTurn][]tickEvent{}
	}
	at := e.turn()
	r.byTurn[at] = append(r.byTurn[at], e)
	r.bytes += len(e.payload)
	r.count.Add(1)
	return len(r.byTurn[at]) == 1
}

// take removes the events that precede an event of a group and instance, and appends them to events.
func (r *resuming) take(events []tickEvent, group string, instance int) []tickEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range []tickTurn{{group: group}, {instance: instance}} {
		events = append(events, r.removeLocked(at)...)
	}
	return events
}

// takeOf removes the events that precede the next event of an instance, and returns them.
func (r *resuming) takeOf(instance int) []tickEvent {
	if r.count.Load() == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.removeLocked(tickTurn{instance: instance})
}

func (r *resuming) removeLocked(at tickTurn) []tickEvent {
	events := r.byTurn[at]
	delete(r.byTurn, at)
	r.count.Add(-int32(len(events)))
	for i := range events {
		r.bytes -= len(events[i].payload)
	}
	return events
}

// giveBack puts events back that take has returned, before later ones.
func (r *resuming) giveBack(events []tickEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	later := map[tickTurn][]tickEvent{}
	for i := range events {
		if at := events[i].turn(); later[at] == nil {
			later[at] = r.removeLocked(at)
		}
	}
	for i := range events {
		r.addLocked(events[i])
	}
	for _, list := range later {
		for i := range list {
			r.addLocked(list[i])
		}
	}
}

// retain adapts to another state of the pipeline: it drops the events of groups to which the plugin is not bound any
// more, and leaves those of instances that do not exist any more to others.
func (r *resuming) retain(bound func(group string) bool, instances int) {
	if r.count.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for at := range r.byTurn {
		switch {
		case at.group != "" && !bound(at.group):
			r.removeLocked(at)
		case at.instance >= instances:
			for _, e := range r.removeLocked(at) {
				e.instance %= instances
				r.addLocked(e)
			}
		}
	}
}

// full reports whether the events must become fewer before others are added.
func (r *resuming) full() bool {
	if r.count.Load() == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.count.Load()) >= maxResuming || r.bytes >= maxResumingBytes
}
