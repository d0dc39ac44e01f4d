package plugins

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// canaryTrial collects the results of a canary. Methods are safe for concurrent use.
type canaryTrial struct {
	limits CanaryLimits
	since  time.Time
	beside *plugin // the candidate's shadow, or nil
	unseen string  // why there is no shadow

	candidate, stable   callMeter // of events, and of calls for clients of a function
	classes, subscribes meterPair

	mu    sync.Mutex // guards the fields below
	marks []canaryMark
	fault string
}

// meterPair counts the calls of a hook, by module.
type meterPair struct{ candidate, stable callMeter }

func (p *meterPair) read() pairCounts { return pairCounts{p.candidate.read(), p.stable.read()} }

// callMeter counts the events of a module, and how long they took.
type callMeter struct {
	calls, failures atomic.Uint64
	times           [timeBuckets]atomic.Uint64 // of events that did not fail
}

// timeBuckets is the number of intervals of durations: four for each doubling, up to an hour.
const timeBuckets = 4 * 40

// timeBucket returns the interval of a duration.
func timeBucket(d time.Duration) int {
	n := uint64(max(d, 4))
	exponent := bits.Len64(n) - 1 // at least 2
	return min(4*(exponent-2)+int(n>>(exponent-2)&3), timeBuckets-1)
}

// bucketTime returns the middle of an interval.
func bucketTime(i int) time.Duration {
	low := time.Duration(4+i%4) << (i / 4)
	return low + (time.Duration(1)<<(i/4))/2
}

// count counts an event.
func (m *callMeter) count(took time.Duration, err error) {
	m.calls.Add(1)
	if err != nil {
		m.failures.Add(1)
		return
	}
	m.times[timeBucket(took)].Add(1)
}

// callCounts are the counts of a meter at a time, or between two times.
type callCounts struct {
	calls, failures uint64
	times           [timeBuckets]uint64
}

// read returns the counts. Failures are read first, so that there are never more of them than calls.
func (m *callMeter) read() (c callCounts) {
	c.failures, c.calls = m.failures.Load(), 0
	for i := range c.times {
		c.times[i] = m.times[i].Load()
	}
	c.calls = m.calls.Load()
	return c
}

// since returns the counts since an earlier time.
func (c *callCounts) since(o *callCounts) callCounts {
	d := callCounts{calls: c.calls - o.calls, failures: c.failures - o.failures}
	for i := range d.times {
		d.times[i] = c.times[i] - o.times[i]
	}
	return d
}

// timed returns how many durations there are.
func (c *callCounts) timed() (n uint64) {
	for _, of := range c.times {
		n += of
	}
	return n
}

// quantile returns the duration below which a share of the durations is, 0 if there are none.
func (c *callCounts) quantile(share float64) time.Duration {
	left := uint64(share * float64(c.timed()))
	for i, n := range c.times {
		if n > left {
			return bucketTime(i)
		}
		left -= n
	}
	return 0
}

// canaryCounts are the counts of both modules and of the shadow.
type canaryCounts struct {
	candidate, stable   callCounts
	same, differ        uint64
	classes, subscribes pairCounts
}

// pairCounts are the counts of a hook's calls.
type pairCounts struct{ candidate, stable callCounts }

func (c *pairCounts) since(o *pairCounts) pairCounts {
	return pairCounts{c.candidate.since(&o.candidate), c.stable.since(&o.stable)}
}

func (c *canaryCounts) since(o *canaryCounts) canaryCounts {
	return canaryCounts{
		c.candidate.since(&o.candidate), c.stable.since(&o.stable), c.same - o.same, c.differ - o.differ,
		c.classes.since(&o.classes), c.subscribes.since(&o.subscribes),
	}
}

// canaryMark is the counts at a time.
type canaryMark struct {
	at     time.Time
	counts canaryCounts
}

const (
	// canaryMarkEvery is the least time between two marks.
	canaryMarkEvery = time.Second
	// canaryMarks is how many marks a trial keeps.
	canaryMarks = 61
)

// canarySpans are the times over which a candidate is judged, besides the whole trial.
var canarySpans = [...]time.Duration{3 * time.Second, 10 * time.Second, time.Minute}

// counts returns the current counts.
func (t *canaryTrial) counts() canaryCounts {
	c := canaryCounts{
		candidate: t.candidate.read(), stable: t.stable.read(), classes: t.classes.read(), subscribes: t.subscribes.read(),
	}
	if beside := t.beside; beside != nil {
		c.same, c.differ = beside.shadow.same.Load(), beside.shadow.differ.Load()
	}
	return c
}

// judge judges the recent counts at a time, and remembers them for later judgements. It returns the first fault that
// was found, empty if there is none.
func (t *canaryTrial) judge(counts *canaryCounts, now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault == "" {
		t.fault = judgeCanary(counts, &t.limits)
	}
	for _, span := range canarySpans {
		for i := len(t.marks) - 1; i >= 0 && t.fault == ""; i-- {
			if age := now.Sub(t.marks[i].at); age >= span || i == 0 {
				of := counts.since(&t.marks[i].counts)
				t.fault = judgeCanary(&of, &t.limits)
				break
			}
		}
	}
	if n := len(t.marks); n == 0 || now.Sub(t.marks[n-1].at) >= canaryMarkEvery {
		if n == canaryMarks {
			copy(t.marks, t.marks[1:])
			t.marks = t.marks[:n-1]
		}
		t.marks = append(t.marks, canaryMark{now, *counts})
	}
	return t.fault
}
