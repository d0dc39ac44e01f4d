package lanes

import "time"

// blameSpan is how far back the share of the fan-out is measured, at least.
const blameSpan = 500 * time.Millisecond

// fanOutClock measures the time that a lane's worker spends in the fan-out, for which plugins are not to blame.
type fanOutClock struct {
	since time.Time     // start of the hand-over in progress; zero if there is none
	total time.Duration // of all finished ones
	marks [2]fanOutMark // earlier readings, the older one first
}

// fanOutMark is an earlier reading of a fanOutClock.
type fanOutMark struct {
	at    time.Time
	total time.Duration
}

func newFanOutClock(now time.Time) fanOutClock {
	return fanOutClock{marks: [2]fanOutMark{{at: now}, {at: now}}}
}

func (c *fanOutClock) start(now time.Time) { c.since = now }

func (c *fanOutClock) stop(now time.Time) {
	c.total += now.Sub(c.since)
	c.since = time.Time{}
	if now.Sub(c.marks[1].at) >= blameSpan {
		c.marks[0], c.marks[1] = c.marks[1], fanOutMark{now, c.total}
	}
}

// elapsed returns the time spent in the fan-out so far.
func (c *fanOutClock) elapsed(now time.Time) time.Duration {
	if c.since.IsZero() {
		return c.total
	}
	return c.total + now.Sub(c.since)
}

// age returns the time since a reading of reading, without the time that the fan-out took meanwhile.
func (c *fanOutClock) age(now, queued time.Time) time.Duration { return c.pluginTime(now).Sub(queued) }

// pluginTime returns a time that stands still during the fan-out, for the ages of events that wait for plugins.
func (c *fanOutClock) pluginTime(now time.Time) time.Time { return now.Add(-c.elapsed(now)) }

// toBlame reports whether the fan-out is why the lane is full: the worker is there now, or was there for most of the
// recent time.
func (c *fanOutClock) toBlame(now time.Time) bool {
	older := c.marks[0]
	return !c.since.IsZero() || 2*(c.elapsed(now)-older.total) > now.Sub(older.at)
}
