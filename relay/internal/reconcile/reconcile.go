// Package reconcile keeps the entries of a destination as they should be: group memberships in one Redis host, or
// subscriptions over one connection. A [Set] records which entries are wanted, which are placed, and which command is
// in flight. Callers of Join wait with a [Ticket].
//
// The package does no I/O and takes no lock. The caller owns a mutex, holds the mutex during every call, takes
// commands with
// [Set.Next], sends them without the mutex, and reports each outcome with [Set.End]. At most one command per entry is
// in flight, so a change of mind while a command is in flight takes effect once the command is answered. A Set per
// destination keeps a destination that hangs from delaying others.
package reconcile

import (
	"slices"
	"time"
)

// Pauses before a faulty entry is examined.
const (
	faultPauseMin = time.Second
	faultPauseMax = 30 * time.Second
)

// Entry is a name at a destination. V is the owner's part.
type Entry[V any] struct {
	Key   string
	Value V

	wanted   bool
	phase    Phase
	attempt  uint64 // counts commands, so that End recognizes a late answer
	queued   bool   // in Set.queue
	doubted  bool   // to be checked, or examined if faulty
	expiring bool   // to be refreshed
	lapsed   bool   // was placed, and vanished without being dropped
	late     bool   // a caller was answered before the entry was placed
	fault    fault
	waiting  []*Ticket[V]
}

// fault is why an entry is faulty.
type fault struct {
	err   error
	pause time.Duration
	retry time.Time
}

// Wanted reports whether the entry should be placed.
func (e *Entry[V]) Wanted() bool { return e.wanted }

// Phase returns how far the entry is.
func (e *Entry[V]) Phase() Phase { return e.phase }

// Lapsed reports whether the entry vanished and has not been placed again.
func (e *Entry[V]) Lapsed() bool { return e.lapsed }

// Fault returns why the destination rejects the entry, or nil.
func (e *Entry[V]) Fault() error { return e.fault.err }

// InPlace reports whether the entry is wanted and placed.
func (e *Entry[V]) InPlace() bool {
	return e.wanted && (e.phase == Placed || e.phase == Checking || e.phase == Refreshing)
}

// Set is the entries of a destination. The zero value is empty and ready for use.
// See docs/decisions/layout.md#why-is-there-one-reconciler
type Set[V any] struct {
	// Forgot is called for an entry that is neither wanted nor placed any more. nil: no call.
	Forgot func(*Entry[V])

	entries map[string]*Entry[V]
	queue   []*Entry[V] // entries that need a command, the oldest first
	stale   int         // forgotten entries in the queue
	faulty  map[*Entry[V]]bool
	flying  int           // entries with a command in flight
	lapsed  int           // entries that have lapsed
	emptied chan struct{} // closed with the last entry; nil: no caller waits
}

// Get returns the entry of a key, or nil.
func (s *Set[V]) Get(key string) *Entry[V] { return s.entries[key] }

// Len returns the number of entries, including entries that are being removed.
func (s *Set[V]) Len() int { return len(s.entries) }

// Unsettled returns the number of entries that need a command or wait for an answer.
func (s *Set[V]) Unsettled() int { return len(s.queue) - s.stale + s.flying }

// LapsedCount returns the number of entries that have vanished and are not placed again.
func (s *Set[V]) LapsedCount() int { return s.lapsed }

// Faulty yields the faulty entries in no particular order.
func (s *Set[V]) Faulty(yield func(*Entry[V]) bool) {
	for e := range s.faulty {
		if !yield(e) {
			return
		}
	}
}

// All yields every entry in no particular order. Dropping entries meanwhile is fine.
func (s *Set[V]) All(yield func(*Entry[V]) bool) {
	for _, e := range s.entries {
		if !yield(e) {
			return
		}
	}
}

// Want has an entry placed. If the entry is not in place, t waits; a faulty entry makes no caller wait. created is
// whether the entry is new, so that the owner has to set the Value.
func (s *Set[V]) Want(key string, t *Ticket[V]) (e *Entry[V], created bool) {
	e = s.entries[key]
	if created = e == nil; created {
		e = &Entry[V]{Key: key}
		if s.entries == nil {
			s.entries = map[string]*Entry[V]{}
		}
		s.entries[key] = e
	}
	e.wanted = true
	switch {
	case e.InPlace():
	case e.fault.err != nil:
		t.entries = append(t.entries, e)
		e.late = !e.lapsed
	default:
		t.entries = append(t.entries, e)
		t.wait(e)
	}
	s.schedule(e)
	return e, created
}

// Drop no longer wants an entry.
func (s *Set[V]) Drop(key string) {
	if e := s.entries[key]; e != nil {
		s.drop(e)
	}
}

func (s *Set[V]) drop(e *Entry[V]) {
	e.wanted, e.late = false, false
	s.setLapsed(e, false)
	s.clearFault(e)
	if e.phase == Faulty {
		e.phase = Uncertain
	}
	s.schedule(e)
}

// DropAll drops every entry, and returns a channel that is closed once the last entry is removed.
func (s *Set[V]) DropAll() <-chan struct{} {
	emptied := s.emptied
	if emptied == nil {
		emptied = make(chan struct{})
		s.emptied = emptied
	}
	for _, e := range s.entries {
		s.drop(e)
	}
	if len(s.entries) == 0 && s.emptied != nil {
		close(emptied)
		s.emptied = nil
	}
	return emptied
}

// Doubt has a wanted entry checked: something may have removed it. A faulty entry is examined without a pause.
func (s *Set[V]) Doubt(key string) {
	if e := s.entries[key]; e != nil && e.wanted {
		e.doubted = true
		s.schedule(e)
	}
}

// DoubtAll doubts every entry, and the faulty entries only if faulty is true.
func (s *Set[V]) DoubtAll(faulty bool) {
	for _, e := range s.entries {
		if e.wanted && (faulty || e.fault.err == nil) {
			e.doubted = true
			s.schedule(e)
		}
	}
}

// Rewrite writes every wanted entry again, before any expires. An entry that has vanished unnoticed lapses: placing it
// straight away would hide that events were missed.
func (s *Set[V]) Rewrite() {
	for _, e := range s.entries {
		switch {
		case !e.wanted:
			continue
		case e.InPlace(), e.phase == Placing:
			e.expiring = true
		case e.phase == Faulty:
			e.doubted = true
		}
		s.schedule(e)
	}
}

// Lost notes that the destination dropped an entry without being told to, or that the entry's connection broke. A
// command in flight is void.
func (s *Set[V]) Lost(e *Entry[V]) {
	if s.entries[e.Key] != e {
		return
	}
	if e.InPlace() {
		s.setLapsed(e, true)
	}
	if e.phase.InFlight() {
		s.flying--
	}
	e.attempt++
	e.phase, e.doubted, e.expiring = Absent, false, false
	s.clearFault(e)
	s.schedule(e)
}

// LoseAll is Lost for every entry.
func (s *Set[V]) LoseAll() {
	for _, e := range s.entries {
		s.Lost(e)
	}
}

// RetryFaulty has the faulty entries examined whose pause is over.
func (s *Set[V]) RetryFaulty(now time.Time) {
	for e := range s.faulty {
		if e.phase == Faulty && !e.fault.retry.After(now) {
			e.doubted = true
			s.schedule(e)
		}
	}
}

// NextRetry returns when the next pause of a faulty entry is over; zero if no entry is faulty.
func (s *Set[V]) NextRetry() (at time.Time) {
	for e := range s.faulty {
		if e.phase == Faulty && !e.doubted && (at.IsZero() || e.fault.retry.Before(at)) {
			at = e.fault.retry
		}
	}
	return at
}

// schedule queues an entry that needs a command, forgets an entry at the end of its life, and answers callers with
// nothing left to wait for.
func (s *Set[V]) schedule(e *Entry[V]) {
	switch next(e.phase, e.wanted, e.doubted, e.expiring) {
	case forget:
		s.forget(e)
		return
	case Nothing:
	default:
		if !e.queued {
			e.queued = true
			s.queue = append(s.queue, e)
		}
	}
	if e.phase == Faulty || e.phase == Placed && e.wanted && !e.doubted {
		s.answer(e)
	}
}

// staleMax is the number of forgotten entries that may stay in the queue, and in a long queue as many as others.
const staleMax = 64

// forget removes an entry from the set. A queued entry stays in the queue, and is skipped by Next.
func (s *Set[V]) forget(e *Entry[V]) {
	if s.entries[e.Key] != e {
		return
	}
	delete(s.entries, e.Key)
	if e.queued {
		s.stale++
	}
	if s.stale > max(staleMax, len(s.queue)/2) { // While the destination is away, Next is not called.
		s.queue = slices.DeleteFunc(s.queue, func(e *Entry[V]) bool { return s.entries[e.Key] != e })
		s.stale = 0
	}
	s.setLapsed(e, false)
	s.clearFault(e)
	s.answer(e)
	if s.Forgot != nil {
		s.Forgot(e)
	}
	if len(s.entries) == 0 && s.emptied != nil {
		close(s.emptied)
		s.emptied = nil
	}
}

// answer ends the wait of all callers for an entry.
func (s *Set[V]) answer(e *Entry[V]) {
	if len(e.waiting) > 0 && e.phase == Faulty {
		e.late = !e.lapsed
	}
	for _, t := range e.waiting {
		t.answered()
	}
	e.waiting = nil
}

func (s *Set[V]) setLapsed(e *Entry[V], lapsed bool) {
	switch {
	case lapsed && !e.lapsed:
		s.lapsed++
	case !lapsed && e.lapsed:
		s.lapsed--
	}
	e.lapsed = lapsed
}

func (s *Set[V]) setFault(e *Entry[V], err error, now time.Time) {
	pause := faultPauseMin
	if e.fault.pause > 0 {
		pause = min(2*e.fault.pause, faultPauseMax)
	}
	e.fault = fault{err, pause, now.Add(pause)}
	if s.faulty == nil {
		s.faulty = map[*Entry[V]]bool{}
	}
	s.faulty[e] = true
}

func (s *Set[V]) clearFault(e *Entry[V]) {
	e.fault = fault{}
	delete(s.faulty, e)
}
