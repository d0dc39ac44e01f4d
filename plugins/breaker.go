package plugins

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxBreakers bounds how many keys with recent failures the breakers of a slot remember.
	maxBreakers = 256
	// breakerMemory is how long a failure counts when no other call with its key follows.
	breakerMemory = time.Minute
	// rateCalls is the number of calls from which on a failure rate counts: a breaker opens if half of them failed.
	rateCalls = 20
	// rateSpan is the number of calls at which the counts are halved, so that the rate follows recent calls.
	rateSpan = 64
)

// breakerKey names the calls that a circuit breaker suspends. A failure concerns no other calls.
type breakerKey struct {
	hook  Hook
	group string
	// subject is the class that on_class renders for, or a hash of the user that on_subscribe decides about: a failing
	// subscription of one user must not deny those of other users. Calls for replays have the bit replaySubject set.
	subject uint64
}

// replaySubject marks the key of a call for an event of a replay. Many clients may replay the same failing event, which
// must not suspend the calls for live events.
// See docs/decisions/plugins.md#why-do-replays-have-circuit-breakers-of-their-own
const replaySubject = 1 << 32

// ofReplay reports whether the key is of calls for replays.
func (k breakerKey) ofReplay() bool { return k.hook != OnSubscribe && k.subject&replaySubject != 0 }

// breakerPhase is the phase of a circuit breaker.
type breakerPhase uint8

const (
	breakerClosed   breakerPhase = iota // calls are made and their failures counted
	breakerOpen                         // calls are suspended; from retryAt on, the next call becomes the trial
	breakerHalfOpen                     // the trial call is in flight; all other calls are suspended
)

// breakerEvent is an input of a circuit breaker.
type breakerEvent uint8

const (
	callRequested breakerEvent = iota // a caller asks whether the call may be made
	callSucceeded
	callFailed
	callAbandoned // the permitted call was not made, or the result says nothing about the key
)

// breakerLimits are the settings of a circuit breaker.
type breakerLimits struct {
	maxFailures int
	cooldown    time.Duration
}

// breaker is the state of a circuit breaker. Times are [ticks].
type breaker struct {
	phase breakerPhase
	score int // failures minus successes while closed
	// calls and failures count recent calls while closed, since rateBegan.
	calls, failures int
	rateBegan       int64
	failedTrials    int // in a row
	retryAt         int64
	lastFailure     int64
}

// next returns the breaker's state after an event. All changes of the phase happen here. For callRequested,
// permitted reports whether the call may be made.
func (b breaker) next(event breakerEvent, now int64, limits breakerLimits) (_ breaker, permitted bool) {
	if event == callFailed {
		b.lastFailure = now
	}
	switch b.phase {
	case breakerClosed:
		switch event {
		case callRequested:
			return b, true
		case callSucceeded:
			b.score = max(0, b.score-1)
			b.count(now, 0)
		case callFailed:
			b.score++
			b.count(now, 1)
			if b.score >= limits.maxFailures || b.calls >= rateCalls && 2*b.failures >= b.calls {
				b.phase, b.retryAt = breakerOpen, now+int64(limits.cooldown)
			}
		}
	case breakerOpen:
		switch event {
		case callRequested:
			if now >= b.retryAt {
				b.phase = breakerHalfOpen
				return b, true
			}
		case callSucceeded: // of a call that began before the breaker opened
			b = breaker{lastFailure: b.lastFailure}
		}
	case breakerHalfOpen:
		switch event {
		case callSucceeded:
			b = breaker{lastFailure: b.lastFailure}
		case callFailed:
			b.failedTrials++
			b.phase, b.retryAt = breakerOpen, now+int64(trialPause(limits.cooldown, b.failedTrials))
		case callAbandoned:
			b.phase = breakerOpen // retryAt has passed: the next call is the trial
		}
	}
	return b, false
}

// count counts a call and its failures for the failure rate.
func (b *breaker) count(now int64, failures int) {
	switch {
	case b.calls == 0 || now-b.rateBegan > int64(breakerMemory):
		b.calls, b.failures, b.rateBegan = 0, 0, now
	case b.calls >= rateSpan:
		b.calls, b.failures = b.calls/2, b.failures/2
	}
	b.calls++
	b.failures += failures
}

// trialPause returns how long calls stay suspended after a number of failed trials.
func trialPause(cooldown time.Duration, failedTrials int) time.Duration {
	return cooldown << min(failedTrials, 5)
}

// forgettable reports whether the failures no longer matter: successes outnumber them, and the failure rate is low.
func (b breaker) forgettable() bool {
	return b.phase == breakerClosed && b.score == 0 &&
		(b.failures == 0 || b.calls >= rateCalls && 4*b.failures < b.calls)
}

// stale reports whether the breaker's failures are too old to count. A trial in flight reports back, so its breaker
// stays.
func (b breaker) stale(now int64) bool {
	return b.phase != breakerHalfOpen && now-max(b.lastFailure, b.retryAt) > int64(breakerMemory)
}

// breakers holds the circuit breakers of a slot, by key. Only keys with recent failures have an entry; without any
// entry, a call costs two atomic loads. Methods are safe for concurrent use.
// See docs/decisions/plugins.md#why-is-the-circuit-breaker-kept-per-hook-and-group
type breakers struct {
	limits breakerLimits
	now    func() time.Time

	count     atomic.Int32 // len(entries), readable without the lock
	mu        sync.Mutex   // guards the fields below
	entries   map[breakerKey]breaker
	lastSweep int64 // ticks
}

// allow reports whether a call may be made. After true, the caller must call succeeded, failed or abandon.
func (b *breakers) allow(key breakerKey) bool { return b.count.Load() == 0 || b.request(key) }

// request is allow for a slot with recent failures.
func (b *breakers) request(key breakerKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := ticks(b.now())
	b.sweep(now)
	old, ok := b.entries[key]
	if !ok {
		return true
	}
	state, permitted := old.next(callRequested, now, b.limits)
	if state != old {
		b.entries[key] = state
	}
	return permitted
}

// abandon ends a permitted call without a verdict on its key.
func (b *breakers) abandon(key breakerKey) { b.report(key, callAbandoned) }

// succeeded reports a successful call.
func (b *breakers) succeeded(key breakerKey) {
	if b.count.Load() != 0 {
		b.report(key, callSucceeded)
	}
}

func (b *breakers) report(key breakerKey, event breakerEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	state, ok := b.entries[key]
	if !ok {
		return
	}
	if state, _ = state.next(event, ticks(b.now()), b.limits); state.forgettable() {
		b.remove(key)
	} else {
		b.entries[key] = state
	}
}

// failed reports a failed call and returns whether the breaker opened because of the failure. A failed trial, which
// keeps an open breaker open, returns false.
func (b *breakers) failed(key breakerKey) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := ticks(b.now())
	old, ok := b.entries[key]
	if !ok {
		b.sweep(now)
		b.makeRoom()
		key.group = strings.Clone(key.group)
	}
	state, _ := old.next(callFailed, now, b.limits)
	b.entries[key] = state
	b.count.Store(int32(len(b.entries)))
	return old.phase == breakerClosed && state.phase == breakerOpen
}

// makeRoom removes the entry with the oldest failure if the table is full. Its plugin is then called again; if the call
// fails, on_error decides, so no event passes unprocessed.
func (b *breakers) makeRoom() {
	if b.entries == nil {
		b.entries = map[breakerKey]breaker{}
	}
	if len(b.entries) < maxBreakers {
		return
	}
	var oldest breakerKey
	var failure int64
	for key, state := range b.entries {
		if oldest == (breakerKey{}) || state.lastFailure < failure {
			oldest, failure = key, state.lastFailure
		}
	}
	b.remove(oldest)
}

func (b *breakers) remove(key breakerKey) {
	delete(b.entries, key)
	b.count.Store(int32(len(b.entries)))
}

// sweep removes stale entries, at most four times per breakerMemory.
func (b *breakers) sweep(now int64) {
	if now-b.lastSweep < int64(breakerMemory)/4 {
		return
	}
	b.lastSweep = now
	for key, state := range b.entries {
		if state.stale(now) {
			b.remove(key)
		}
	}
}

// OpenBreaker names a hook whose calls are suspended for a group after failures there.
type OpenBreaker struct {
	Hook  string `json:"hook"`
	Group string `json:"group"`
	// Replay tells that the calls are those for events of the history, which clients that resume get.
	Replay bool `json:"replay,omitempty"`
	// HalfOpen tells that the cooldown has ended: a trial call is in flight, or the next call will be the trial.
	HalfOpen bool `json:"half_open,omitempty"`
}

// appendOpen appends the breakers that are not closed to list.
func (b *breakers) appendOpen(list []OpenBreaker) []OpenBreaker {
	if b.count.Load() == 0 {
		return list
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := ticks(b.now())
	for key, state := range b.entries {
		if state.phase != breakerClosed {
			halfOpen := state.phase == breakerHalfOpen || now >= state.retryAt
			list = append(list, OpenBreaker{key.hook.String(), key.group, key.ofReplay(), halfOpen})
		}
	}
	return list
}
