package plugins

import (
	"math/bits"
	"runtime"
	"time"
)

// tally counts the calls of a slot. The slot's lock guards the counters, so counting needs no atomic operation. Readers
// that must not wait for a call get a published copy, see [slot.snapshot].
type tally struct {
	calls, fuel        uint64
	verdicts           [3]uint64 // of on_event, by Verdict
	emitted            uint64
	subscribes, denies uint64
	renders, ticks     uint64
	answered           uint64 // successful calls of functions: on_connect and the hooks after it
	replayed           uint64 // events of replays
	replayFailures     uint64 // failed calls for replays
	failures           [len(kinds)]uint64
	last               *Failure
	lastAt             time.Time
	recent             failureWindow
	durations          [hookCount]durations
}

func (t *tally) add(o *tally) {
	t.calls += o.calls
	t.fuel += o.fuel
	for i := range t.verdicts {
		t.verdicts[i] += o.verdicts[i]
	}
	t.emitted += o.emitted
	t.subscribes += o.subscribes
	t.denies += o.denies
	t.renders += o.renders
	t.ticks += o.ticks
	t.answered += o.answered
	t.replayed += o.replayed
	t.replayFailures += o.replayFailures
	for i := range t.failures {
		t.failures[i] += o.failures[i]
	}
	if o.lastAt.After(t.lastAt) {
		t.last, t.lastAt = o.last, o.lastAt
	}
	for i := range t.durations {
		t.durations[i].add(&o.durations[i])
	}
}

// failed returns the number of failed calls.
func (t *tally) failed() (n uint64) {
	for _, of := range t.failures {
		n += of
	}
	return n
}

// succeeded reports whether any call has succeeded.
func (t *tally) succeeded() bool {
	return t.verdicts[Pass]+t.verdicts[Drop]+t.verdicts[Replace]+t.subscribes+t.renders+t.ticks+t.answered+t.replayed > 0
}

// recentSpan is the time that a failure rate covers; it may reach back twice as far.
const recentSpan = time.Minute

// failureWindow remembers the counts at two earlier failures, for the rate of recent failures. Times are [ticks].
type failureWindow struct {
	older, newer failureMark
	lastAt       int64
}

// failureMark is a slot's counts before a failure.
type failureMark struct {
	at              int64
	calls, failures uint64
}

// note records a failure, which the tally has counted already.
func (w *failureWindow) note(now int64, calls, failures uint64) {
	mark := failureMark{now, calls - 1, failures - 1}
	switch {
	case w.lastAt == 0 || now-w.lastAt > int64(recentSpan):
		w.older, w.newer = mark, mark
	case now-w.newer.at > int64(recentSpan)/2:
		w.older, w.newer = w.newer, mark
	}
	w.lastAt = now
}

// rate returns the calls and failures since the older mark, or zeros if the last failure is not recent.
func (t *tally) rate(now int64) (calls, failures uint64) {
	if w := &t.recent; w.lastAt != 0 && now-w.lastAt <= int64(recentSpan) {
		return t.calls - w.older.calls, t.failed() - w.older.failures
	}
	return 0, 0
}

// DurationBounds are the upper bounds of the buckets of a [Histogram].
var DurationBounds = [...]time.Duration{
	10 * time.Microsecond, 30 * time.Microsecond, 100 * time.Microsecond, 300 * time.Microsecond,
	time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond,
	100 * time.Millisecond, time.Second,
}

const (
	// timedCalls is the number of calls of a hook that a slot times one by one before it starts to sample.
	timedCalls = 64
	// sampleEvery is how many calls share a measurement afterwards. A call that outlasts its first slice of fuel is
	// always timed.
	sampleEvery = 64
)

// durations is a histogram of the durations of a hook's calls.
// See docs/decisions/plugins.md#why-are-short-calls-timed-by-samples
type durations struct {
	buckets [len(DurationBounds) + 1]uint64 // the last one is for longer calls
	sum     time.Duration
	pending uint64 // calls since the last measured one that have not been timed
	last    time.Duration
	timed   uint64
}

// samples reports whether the next call is to be timed.
func (d *durations) samples() bool { return d.timed < timedCalls || d.pending >= sampleEvery-1 }

// record adds calls that took about as long as a measured one.
func (d *durations) record(took time.Duration, calls uint64) {
	i := 0
	for i < len(DurationBounds) && took > DurationBounds[i] {
		i++
	}
	d.buckets[i] += calls
	d.sum += took * time.Duration(calls)
}

// measured adds a timed call, and the untimed calls before it if the call was a sample.
func (d *durations) measured(took time.Duration, sample bool) {
	if sample {
		d.record(took, d.pending+1)
		d.pending, d.last = 0, took
	} else {
		d.record(took, 1)
	}
	d.timed++
}

// flush adds the untimed calls as if they had taken as long as the last sample.
func (d *durations) flush() {
	if d.pending > 0 {
		d.record(d.last, d.pending)
		d.pending = 0
	}
}

func (d *durations) add(o *durations) {
	for i := range d.buckets {
		d.buckets[i] += o.buckets[i]
	}
	d.sum += o.sum
}

// hookCount is at least the number of hooks, and a power of two; Hook.index is below.
const hookCount = 16

// index returns the position of a single hook.
func (h Hook) index() int { return bits.TrailingZeros16(uint16(h)) & (hookCount - 1) }

// publish makes a copy of the slot's counts for readers, and returns the copy. The caller holds the slot's lock.
func (s *slot) publish() *tally {
	for i := range s.tally.durations {
		s.tally.durations[i].flush()
	}
	if s.instance != nil {
		s.tally.fuel += uint64(s.instance.takeSpentFuel())
	}
	t := s.tally
	s.published.Store(&t)
	return &t
}

// snapshot returns the slot's counts without waiting for a call in flight. It reports false if a call is in flight: the
// counts then lag behind by the calls since the last copy was published. Counts never go back.
func (s *slot) snapshot() (t *tally, exact bool) {
	if s.mu.TryLock() {
		defer s.mu.Unlock()
		return s.publish(), true
	}
	return s.published.Load(), false
}

// snapshotPatience bounds how long a reader waits for short calls to end. A long call has published the counts.
const snapshotPatience = time.Millisecond

// each calls f with the counts of each slot, without waiting for long calls.
// See docs/decisions/plugins.md#why-do-readers-of-counts-not-wait-for-calls
func (m *module) each(f func(*tally)) {
	var deadline time.Time
	for i := range m.slots {
		t, exact := m.slots[i].snapshot()
		for !exact {
			if deadline.IsZero() {
				deadline = time.Now().Add(snapshotPatience)
			}
			if time.Now().After(deadline) {
				break
			}
			runtime.Gosched()
			t, exact = m.slots[i].snapshot()
		}
		if t != nil {
			f(t)
		}
	}
}

// total adds up the tallies of a module's slots.
func (m *module) total() (t tally) {
	m.each(t.add)
	return t
}

// failureRate returns the recent calls and failures of a module's slots.
func (m *module) failureRate(now int64) (calls, failures uint64) {
	m.each(func(t *tally) {
		c, f := t.rate(now)
		calls, failures = calls+c, failures+f
	})
	return calls, failures
}

// hasSucceeded reports whether any call of the module has succeeded.
func (m *module) hasSucceeded() bool {
	t := m.total()
	return t.succeeded()
}
