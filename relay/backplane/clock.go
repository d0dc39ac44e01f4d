package backplane

import (
	"sync"
	"time"
)

// clockDrift is the assumed difference in speed between the clocks of two machines, in microseconds per second.
// Computers differ by less than half of it.
const clockDrift = 200

// clock is the relation between this node's clocks and those of a peer. The steady clocks of both begin with their
// processes, and never jump. Their offset is known by two bounds: a message that has traveled one way proves that the
// peer's clock is at most so far ahead, and one that has traveled the other way that it is at least so far ahead. The
// bounds are those of the fastest message of each way, so a queue before one message does not count as an offset.
// The zero value knows nothing.
// See docs/decisions/backplane.md#how-does-a-node-know-the-clock-of-a-peer
type clock struct {
	mu           sync.Mutex
	known        bool
	lower, upper int64 // microseconds by which the peer's steady clock is ahead, at least and at most
	at           int64 // when these held, in microseconds of this node's steady clock
	wallBase     int64 // the peer's wall clock minus its steady clock, in microseconds
}

// clockSample is a question to a peer and its answer, in microseconds of steady clocks.
type clockSample struct {
	asked, received   int64 // by this node's clock
	arrived, answered int64 // by the peer's clock
	wallBase          int64
}

// add narrows the bounds by a sample. If a bound contradicts the sample, the clocks have changed, as after the sleep of
// a machine, and the sample alone counts. Impossible samples are ignored.
func (c *clock) add(s clockSample) {
	upper, lower := s.arrived-s.asked, s.answered-s.received
	if s.received < s.asked || s.answered < s.arrived || lower > upper {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wallBase = s.wallBase
	if c.known {
		drift := c.drift(s.received)
		if l, u := max(lower, c.lower-drift), min(upper, c.upper+drift); l <= u {
			lower, upper = l, u
		}
	}
	c.known, c.lower, c.upper, c.at = true, lower, upper, s.received
}

// drift returns the widening of the bounds since they were measured, in microseconds. c.mu is held.
func (c *clock) drift(now int64) int64 { return max(now-c.at, 0) * clockDrift / 1e6 }

// offset returns the microseconds by which the peer's steady clock is ahead, and the largest error of that.
func (c *clock) offset(now int64) (ahead, within int64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ahead = c.lower + (c.upper-c.lower)/2
	return ahead, (c.upper-c.lower+1)/2 + c.drift(now), c.known
}

// since returns the time that has passed since a time of the peer's steady clock. It is negative at most by an error.
func (c *clock) since(sent int64, now time.Time) (passed time.Duration, known bool) {
	own := steadyMicros(now)
	ahead, _, known := c.offset(own)
	return micros(own - (sent - ahead)), known
}

// behind returns the lag of the peer's wall clock behind this node's, and the largest error of that.
func (c *clock) behind(now time.Time) (lag, within time.Duration, known bool) {
	own := steadyMicros(now)
	ahead, err, known := c.offset(own)
	c.mu.Lock()
	defer c.mu.Unlock()
	return micros(wallBase(now) - c.wallBase - ahead), micros(err), known
}

// wallBase returns the wall clock minus the steady clock, in microseconds. It changes when the wall clock is set.
func wallBase(now time.Time) int64 { return now.UnixMicro() - steadyMicros(now) }

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

const (
	// clockFirst is the pause between the first two questions to a peer; the pause grows by clockGrowth up to
	// clockEvery. Once the error is at most clockFine, the pause is clockEvery: a question is two messages for each
	// link and side, and while many nodes connect, these cost as much as the handshakes.
	clockFirst, clockGrowth, clockEvery = time.Second, 4, 10 * time.Second
	clockFine                           = 5 * time.Millisecond
	// maxClock bounds the times in messages about the clock, in microseconds: 3,000 years.
	maxClock = 1e17
)

// isFine reports whether the error is at most clockFine.
func (c *clock) isFine(now time.Time) bool {
	_, within, known := c.offset(steadyMicros(now))
	return known && micros(within) <= clockFine
}

// startClock asks the peer for its clock now and then, until stop is called.
func (l *link) startClock() (stop func()) {
	if !l.timed {
		return func() {}
	}
	var mu sync.Mutex
	ended, pause := false, clockFirst
	var timer *time.Timer
	ask := func() {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return
		}
		now := time.Now()
		if l.in.clock.isFine(now) {
			pause = clockEvery
		}
		l.sendMessage(message{Type: "clock", Asked: steadyMicros(now)})
		timer.Reset(pause)
		pause = min(clockGrowth*pause, clockEvery)
	}
	timer = time.AfterFunc(time.Hour, ask)
	ask()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		ended = true
		timer.Stop()
	}
}

// receiveClock answers a question about the clock, or takes the answer of the peer.
func (l *link) receiveClock(m message, now time.Time) {
	for _, micros := range []int64{m.Asked, m.Arrived, m.Answered, m.WallBase} {
		if micros > maxClock || micros < -maxClock {
			l.fault(faultBroken)
			return
		}
	}
	if m.WallBase == 0 {
		l.sendMessage(message{
			Type: "clock", Asked: m.Asked, Arrived: steadyMicros(now), Answered: steadyMicros(time.Now()),
			WallBase: wallBase(now),
		})
		return
	}
	l.in.clock.add(clockSample{
		asked: m.Asked, arrived: m.Arrived, answered: m.Answered, received: steadyMicros(now), wallBase: m.WallBase,
	})
	l.b.stats.skew.CompareAndSwap(int64(l.skew), 0) // the handshake's estimate, which includes the network's delay
}

// clockSkew returns the largest known lag of a peer's clock, before or behind this node's.
func (b *Backplane) clockSkew() time.Duration {
	largest, now := time.Duration(b.stats.skew.Load()), time.Now()
	for _, l := range b.allLinks() {
		if l.in == nil {
			continue
		}
		if lag, _, known := l.in.clock.behind(now); known && lag.Abs() > largest.Abs() {
			largest = lag
		}
	}
	return largest
}

// clockBehind returns the lag of the peer's clock, and the largest error of that: 0 if only the handshake tells.
func (l *link) clockBehind(now time.Time) (lag, within time.Duration) {
	if l.in != nil {
		if lag, within, known := l.in.clock.behind(now); known {
			return lag, within
		}
	}
	return l.skew, 0
}
