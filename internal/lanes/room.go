package lanes

import "time"

// roomTimeout is how long push waits for plugins to make room in a full lane. After that the plugins are too slow for
// the incoming events, and waiting longer would hold up all other groups.
const roomTimeout = time.Second

// fanOutClock measures the time that a lane's worker spends in the fan-out, for which plugins are not to blame.
type fanOutClock struct {
	since time.Time     // start of the hand-over in progress; zero if there is none
	total time.Duration // of all finished ones
}

func (c *fanOutClock) start(now time.Time) { c.since = now }

func (c *fanOutClock) stop(now time.Time) {
	c.total += now.Sub(c.since)
	c.since = time.Time{}
}

// elapsed returns the time spent in the fan-out so far.
func (c *fanOutClock) elapsed(now time.Time) time.Duration {
	if c.since.IsZero() {
		return c.total
	}
	return c.total + now.Sub(c.since)
}

// roomWait is the time that a push waits for room in the lane. The zero value is ready to use.
type roomWait struct {
	began  time.Time
	fanOut time.Duration // the lane's fan-out time when the wait began
	wake   *time.Timer
}

// expired reports whether the plugins have had roomTimeout to make room. A wait that the worker spent mostly in the
// fan-out starts over. The caller holds the lane's lock.
func (w *roomWait) expired(l *lane, now time.Time) bool {
	waited := now.Sub(w.began)
	switch {
	case w.began.IsZero(), waited >= roomTimeout && 2*(l.fanOut.elapsed(now)-w.fanOut) > waited:
		w.stop()
		w.began, w.fanOut = now, l.fanOut.elapsed(now)
		w.wake = time.AfterFunc(roomTimeout, l.emptied.Broadcast)
		return false
	default:
		return waited >= roomTimeout
	}
}

func (w *roomWait) stop() {
	if w.wake != nil {
		w.wake.Stop()
	}
}
