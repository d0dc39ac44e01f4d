package reconcile

import "time"

// Task is a command to send.
type Task[V any] struct {
	Entry   *Entry[V]
	Action  Action
	Attempt uint64 // for End
}

// Current reports whether the command is in flight, neither answered nor voided by Lost.
func (t Task[V]) Current() bool { return t.Entry.attempt == t.Attempt && t.Entry.phase.InFlight() }

// Recovery tells which events an entry's absence may have cost, now that it is placed.
type Recovery uint8

const (
	// Complete means that no event was missed.
	Complete Recovery = iota
	// AfterLapse means that the entry had vanished.
	AfterLapse
	// AfterLateJoin means that a caller was answered before the entry was placed.
	AfterLateJoin
)

// Next takes up to n commands off the queue, for at most n entries. Each must be answered by End or voided by Lost.
func (s *Set[V]) Next(n int) []Task[V] {
	var tasks []Task[V]
	for len(tasks) < n && len(s.queue) > 0 {
		e := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		e.queued = false
		if s.entries[e.Key] != e {
			s.stale--
			continue
		}
		action := next(e.phase, e.wanted, e.doubted, e.expiring)
		if action == Nothing || action == forget {
			s.schedule(e)
			continue
		}
		e.phase = begin(action)
		s.flying++
		e.doubted, e.expiring = false, false
		e.attempt++
		tasks = append(tasks, Task[V]{e, action, e.attempt})
	}
	if len(s.queue) == 0 {
		s.queue = nil
	}
	return tasks
}

// End notes the outcome of a command. err is the cause of a rejection; nil: the same as before. Recovery tells whether
// events may have been missed before the entry was placed. An answer to a command that Lost has voided is ignored.
func (s *Set[V]) End(t Task[V], o Outcome, err error, now time.Time) Recovery {
	e := t.Entry
	if !t.Current() {
		return Complete
	}
	s.flying--
	before := e.phase
	s.advance(e, o, err, now)
	recovery := Complete
	if before == Placing && e.phase == Placed {
		recovery = s.recover(e)
	}
	s.schedule(e)
	return recovery
}

// advance changes the phase of an entry after a command.
func (s *Set[V]) advance(e *Entry[V], o Outcome, err error, now time.Time) {
	before := e.phase
	var repeat bool
	e.phase, repeat = end(before, o)
	if before == Refreshing || o == Unknowable {
		e.expiring = e.expiring || repeat
	} else {
		e.doubted = e.doubted || repeat
	}
	fault := e.fault.err // nil if the entry was dropped and wanted again meanwhile
	if o == Rejected && err != nil {
		fault = err
	}
	if e.phase == Faulty && (!e.wanted || fault == nil) {
		e.phase = Uncertain
	}
	if (before == Checking || before == Refreshing) && e.wanted && (e.phase == Absent || e.phase == Faulty) {
		s.setLapsed(e, true)
	}
	switch {
	case e.phase == Faulty && o == Rejected:
		s.setFault(e, fault, now)
	case e.phase == Faulty:
	case e.phase != Uncertain, before == Examining:
		s.clearFault(e)
	}
}

// EndEntry is End for the command in flight of an entry, where answers name the entry alone.
func (s *Set[V]) EndEntry(e *Entry[V], o Outcome, now time.Time) Recovery {
	return s.End(Task[V]{Entry: e, Attempt: e.attempt}, o, nil, now)
}

// recover returns and clears the possible loss before the entry was placed.
func (s *Set[V]) recover(e *Entry[V]) (r Recovery) {
	switch {
	case !e.wanted:
	case e.lapsed:
		r = AfterLapse
	case e.late:
		r = AfterLateJoin
	}
	s.setLapsed(e, false)
	e.late = false
	return r
}
