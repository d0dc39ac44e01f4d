package outbound

import (
	"sync/atomic"
	"time"
)

// Labels of [Stats.Results].
var Labels = []string{"1xx", "2xx", "3xx", "4xx", "5xx", "denied", "invalid", "too_large", "busy", "unavailable"}

// Bounds are the upper bounds of [Stats.Buckets].
var Bounds = []time.Duration{
	10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second,
	3 * time.Second, 10 * time.Second, 30 * time.Second,
}

const (
	labelCount = 10
	boundCount = 8
)

// Stats are the counts of a client.
type Stats struct {
	// Results has the number of requests by label, in the order of Labels.
	Results [labelCount]uint64
	// InFlight is the number of requests that have not ended.
	InFlight int
	// Sent is the number of requests that were sent, Seconds how long they took together, and Buckets how many took at
	// most each of Bounds.
	Sent    uint64
	Seconds float64
	Buckets [boundCount]uint64
}

// counters are the live counts.
type counters struct {
	results     [labelCount]atomic.Uint64
	inFlight    atomic.Int64
	nanoseconds atomic.Int64
	sent        atomic.Uint64
	buckets     [boundCount]atomic.Uint64
}

func (c *counters) count(r Result) Result {
	label := int(r.Status/100) - 1
	if r.Outcome != Responded {
		label = 4 + int(r.Outcome)
	}
	c.results[label].Add(1)
	return r
}

func (c *counters) took(d time.Duration) {
	c.sent.Add(1)
	c.nanoseconds.Add(int64(d))
	for i, bound := range Bounds {
		if d <= bound {
			c.buckets[i].Add(1)
		}
	}
}

// Stats returns the counts since the client exists.
func (c *Client) Stats() (s Stats) {
	for i := range s.Results {
		s.Results[i] = c.counters.results[i].Load()
	}
	for i := range s.Buckets {
		s.Buckets[i] = c.counters.buckets[i].Load()
	}
	s.InFlight = int(c.counters.inFlight.Load())
	s.Sent, s.Seconds = c.counters.sent.Load(), time.Duration(c.counters.nanoseconds.Load()).Seconds()
	return s
}
