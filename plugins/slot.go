package plugins

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// errReplaced tells a caller that the module was closed after the caller had looked it up. The plugin's current
	// module, if there is one, takes the event.
	errReplaced = errors.New("the module has been replaced")
	// errBreakerOpen tells that the circuit breaker suspends the call.
	errBreakerOpen = errors.New("circuit breaker open for this group after failures there")
)

// slot holds an instance of a module. All events of a group use the same slot.
// See docs/decisions/plugins.md#why-does-the-group-select-the-instance
type slot struct {
	breakers  breakers              // of the groups that use this slot; has its own lock
	published atomic.Pointer[tally] // a copy of the counts, see snapshot
	pace      atomic.Int64          // average duration of recent calls of on_event, in nanoseconds
	// clientPace is pace for the hooks of a function's clients.
	clientPace atomic.Int64
	inFlight   atomic.Int64 // how long the call in flight has lasted, in nanoseconds; 0 unless it is long
	waiting    atomic.Int32 // calls that wait for the one in flight, without those for replays

	mu       sync.Mutex // held during a call; guards the fields below
	instance *instance  // nil after a failure, until the next call
	// lastGroup is the group of the last event of a module with on_tick.
	lastGroup string
	closed    bool
	began     int64 // ticks at which the call in flight began, 0 if the call is not timed
	tally     tally
	_         [64]byte // keeps neighboring slots off this cache line
}

// slot returns the slot that serves the groups with a hash.
func (m *module) slot(hash uint64) *slot { return &m.slots[m.slotIndex(hash)] }

func (m *module) slotIndex(hash uint64) int { return int(hash % uint64(len(m.slots))) }

// acquire locks the slot that serves the group and makes sure that it holds an instance. The caller must release the
// slot unless there is an error. errReplaced and errors that are errBreakerOpen mean that no call was made; any other
// error is a failure that is already recorded.
func (m *module) acquire(key breakerKey, hash uint64) (*slot, error) {
	s := m.slot(hash)
	// Calls of on_event are the most, so they pay for no function of others.
	if key.hook == OnConnect {
		if err := m.connects.allow(); err != nil {
			return nil, err
		}
	} else if !s.breakers.allow(key) {
		return nil, errBreakerOpen
	}
	if !s.mu.TryLock() {
		if s.tooBusyFor(key.hook) {
			m.abandon(s, key)
			m.env.log.write(slog.LevelWarn, fmt.Sprintf(
				"%s not called: too many calls wait for this instance; raise instances, or lower timeout", key.hook))
			return nil, ErrBusy
		}
		s.waitFor(key)
	}
	if s.instance != nil {
		s.startTimer(key.hook)
		return s, nil
	}
	err := errReplaced
	if !s.closed {
		s.instance, err = m.awaitInstance()
	}
	if err == nil {
		s.instance.slot = s
		s.startTimer(key.hook)
		return s, nil
	}
	if f, failed := err.(*Failure); failed {
		return nil, m.release(s, key, f)
	}
	s.mu.Unlock()
	m.abandon(s, key)
	return nil, err
}

// ErrBusy tells that too many calls for clients of a function wait for the same instance.
var ErrBusy = errors.New("the function is busy")

const (
	// maxClientWait is the time that a client's message or handshake may have to wait for the calls before it. The client
	// sends no pong meanwhile, and each message that waits holds a goroutine.
	maxClientWait = 5 * time.Second
	// maxCloseWait is that of on_close, in which a function may return what its client has held.
	maxCloseWait = 30 * time.Second
)

// tooBusyFor reports whether a call would wait for too long, by the recent calls for clients.
func (s *slot) tooBusyFor(hook Hook) bool {
	limit := maxClientWait
	switch {
	case hook&ofClients == 0:
		return false
	case hook == OnClose:
		limit = maxCloseWait
	}
	pace := max(s.clientPace.Load(), s.inFlight.Load())
	return pace > 0 && int64(s.waiting.Load()) > int64(limit)/pace
}

// waitFor locks a slot with a call in flight.
func (s *slot) waitFor(key breakerKey) {
	if key.ofReplay() { // replays wait for others, and not others for them
		s.mu.Lock()
		return
	}
	s.waiting.Add(1)
	s.mu.Lock()
	s.waiting.Add(-1)
}

// release ends a call: release records the call and, after a failure, discards the instance unless that is
// intact.
func (m *module) release(s *slot, key breakerKey, f *Failure) error {
	if s.inFlight.Load() != 0 {
		s.inFlight.Store(0)
	}
	if f != nil && f.canceled {
		s.discard()
		s.mu.Unlock()
		m.abandon(s, key)
		return f.Err
	}
	s.tally.calls++
	s.stopTimer(key.hook)
	if f == nil {
		s.mu.Unlock()
		if key.hook == OnConnect {
			m.reportConnect(callSucceeded, key.subject, nil)
		} else if s.breakers.count.Load() != 0 {
			s.breakers.report(key, callSucceeded)
		}
		return nil
	}
	m.recordFailure(s, key, f)
	s.mu.Unlock()
	if key.hook == OnConnect {
		m.reportConnect(callFailed, key.subject, f)
		return f
	}
	if !f.Kind.countsForBreaker() && key.hook != OnTick { // every tick is like the one before
		s.breakers.abandon(key)
	} else if s.breakers.failed(key) {
		of := "in group " + key.group
		switch {
		case key.ofReplay():
			of = "in replays of group " + key.group
		case key.group == "":
			of = "of one client or alarm"
		}
		m.env.log.write(slog.LevelError, fmt.Sprintf(
			"circuit breaker open for %s %s, for %v: too many calls failed there; last failure: %v",
			key.hook, of, m.spec.Cooldown, f))
	}
	return f
}

// startTimer begins to time the call unless an earlier measurement serves for this call too.
func (s *slot) startTimer(hook Hook) {
	s.began = 0
	if s.tally.durations[hook.index()].samples() {
		s.began = elapsed()
	}
}

// longCall is the duration from which on a call is always timed, and publishes the slot's counts.
const longCall = time.Millisecond

// stopTimer counts the duration of the call that ends.
func (s *slot) stopTimer(hook Hook) {
	if s.instance == nil { // there was no call
		return
	}
	d := &s.tally.durations[hook.index()]
	began, sample := s.began, s.began != 0
	if !sample {
		if began = s.instance.limits.longSince(); began == 0 {
			d.pending++
			return
		}
	}
	took := time.Duration(elapsed() - began)
	weight := int64(1)
	if sample {
		weight += int64(d.pending)
	}
	d.measured(took, sample)
	switch {
	case hook == OnEvent:
		keepPace(&s.pace, took, weight)
	case hook&ofClients != 0:
		keepPace(&s.clientPace, took, weight)
	}
	if took >= longCall {
		s.publish()
	}
}

// keepPace adds the duration of a call, which stands for a number of calls, to an average of recent calls.
func keepPace(average *atomic.Int64, took time.Duration, weight int64) {
	pace := average.Load()
	average.Store(max(1, pace+(int64(took)-pace)*weight/(weight+paceCalls)))
}

// noteLongCall publishes the counts before a call that turns out to be long, and how long it has lasted. The call
// itself makes it.
func (s *slot) noteLongCall(lasted time.Duration) {
	if s.inFlight.Load() == 0 {
		s.publish() // first: whoever sees the long call finds the counts
	}
	s.inFlight.Store(int64(lasted))
}

// currentPace returns the average duration of recent calls of on_event in nanoseconds, or the time that a long call has
// lasted, or the greatest number while the first call is in flight.
func (s *slot) currentPace() int64 {
	pace := max(s.pace.Load(), s.inFlight.Load())
	if pace > 0 {
		return pace
	}
	if !s.mu.TryLock() {
		return math.MaxInt64
	}
	s.mu.Unlock()
	return 0
}

// paceCalls is about how many calls the average duration of a slot's recent calls covers.
const paceCalls = 32

// recordFailure logs and counts a failure, and discards the slot's instance unless the guest returned in order. The
// caller holds the slot's lock.
func (m *module) recordFailure(s *slot, key breakerKey, f *Failure) {
	f.Plugin = m.spec.Name
	s.tally.failures[f.Kind.index()]++
	if key.ofReplay() {
		s.tally.replayFailures++
	}
	s.tally.last, s.tally.lastAt = f, m.env.now()
	s.tally.recent.note(ticks(s.tally.lastAt), s.tally.calls, s.tally.failed())
	if !f.intact {
		s.discard()
	}
	s.publish()
	text := f.Error()
	if key.group != "" {
		text += " (group " + key.group + ")"
	}
	m.env.log.write(slog.LevelWarn, text)
	m.requestInstance()
}

// close waits for the call in flight and frees the instance. Later callers get errReplaced.
func (s *slot) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.discard()
}

// discard frees the instance. The caller holds the slot's lock.
func (s *slot) discard() {
	if s.instance != nil {
		s.tally.fuel += uint64(s.instance.takeSpentFuel())
		s.instance.close()
		s.instance = nil
	}
}
