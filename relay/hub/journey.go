package hub

import (
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Journey is the way of one event through this node.
type Journey struct {
	Group  string
	Source relay.Source
	// Bytes is the length of the text as it arrived.
	Bytes int
	// Sent is when the emitter published it, by the emitter's clock, zero if unknown.
	Sent time.Time
	// Arrived is when it reached this node, FannedOut when its plugins were done with it, and Written when the last of its
	// clients had been written to. The latter two are zero if it did not come that far.
	Arrived, FannedOut, Written time.Time
	// Clients is how many it was for.
	Clients int
	// Outcome is "delivered", or the reason why nobody got it.
	Outcome string
}

// journey is a Journey under way. A nil one is that of an event that was not sampled.
// See docs/decisions/hub.md#why-is-a-sampled-event-a-job-of-its-own
type journey struct {
	Journey
	report  func(Journey)
	clients atomic.Int64
	written atomic.Int64 // Unix nanoseconds
	pending atomic.Int64 // jobs that are not written yet, and one until it is settled
	settled atomic.Bool  // all jobs are queued
	ended   atomic.Bool
}

// tracing samples events.
type tracing struct {
	every  uint64
	seen   atomic.Uint64
	report func(Journey)
}

// Trace calls report with the journey of one in every events, from the goroutine that wrote to the last client, so
// report must be quick. 0 is none, which costs nothing.
func (h *Hub) Trace(every int, report func(Journey)) {
	if every <= 0 || report == nil {
		h.tracing.Store(nil)
		return
	}
	h.tracing.Store(&tracing{every: uint64(every), report: report})
}

// sample begins the journeys of some of the events that have arrived.
func (t *tracing) sample(events []relay.Event) {
	seen := t.seen.Add(uint64(len(events))) - uint64(len(events))
	for i := t.every - 1 - seen%t.every; i < uint64(len(events)); i += t.every {
		ev := &events[i]
		if ev.Control != nil {
			continue
		}
		j := &journey{
			Journey: Journey{Group: ev.Group, Source: ev.Source, Bytes: len(ev.Text), Sent: ev.Sent, Arrived: time.Now()},
			report:  t.report,
		}
		j.pending.Store(1)
		ev.Trace = j
	}
}

// Discarded implements [relay.Trace].
func (j *journey) Discarded(reason string) {
	j.fail(reason)
	j.settle()
}

// journeyOf returns the journey of an event, nil if it is not sampled.
func journeyOf(ev *relay.Event) *journey {
	j, _ := ev.Trace.(*journey)
	return j
}

// begin notes that plugins are done with events.
func begin(events []relay.Event) {
	for i := range events {
		if j := journeyOf(&events[i]); j != nil && j.FannedOut.IsZero() {
			j.FannedOut = time.Now()
		}
	}
}

// fail notes why nobody gets the event, or a part that a plugin has made of it.
func (j *journey) fail(why string) {
	if j != nil {
		j.Outcome = why
	}
}

// queue notes one more job for a shard.
func (j *journey) queue() {
	if j != nil {
		j.pending.Add(1)
	}
}

// settle notes that all jobs are queued.
func (j *journey) settle() {
	if j != nil && j.settled.CompareAndSwap(false, true) {
		j.finish()
	}
}

// write notes that a job has been written to its clients.
func (j *journey) write(now time.Time, clients int) {
	j.clients.Add(int64(clients))
	j.written.Store(now.UnixNano())
	j.finish()
}

// finish reports the journey when nothing is to come.
func (j *journey) finish() {
	if j.pending.Add(-1) != 0 || !j.ended.CompareAndSwap(false, true) {
		return
	}
	done := j.Journey
	if nanos := j.written.Load(); nanos != 0 {
		done.Clients, done.Written, done.Outcome = int(j.clients.Load()), time.Unix(0, nanos), "delivered"
	}
	j.report(done)
}
