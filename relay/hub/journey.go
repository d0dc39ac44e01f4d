package hub

import (
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Journey is the path of an event through this node.
type Journey struct {
	Group  string
	Source relay.Source
	// Bytes is the length of the text on arrival.
	Bytes int
	// Sent is the time of publication by this node's clock, see [relay.Event.Published]; zero if unknown.
	Sent time.Time
	// Arrived is the time of arrival at this node. FannedOut is the time at which plugins had processed the event, and
	// Written the time of the write to the last client; both are zero if the event did not get that far.
	Arrived, FannedOut, Written time.Time
	// Clients is the number of clients that the event was for.
	Clients int
	// Outcome is "delivered", or the reason why no client got the event.
	Outcome string
}

// journey is a Journey in progress, and implements [relay.Trace]. Methods that are also called for events without a
// journey accept a nil receiver.
// See docs/decisions/hub.md#why-is-a-sampled-event-a-job-of-its-own
type journey struct {
	Journey
	report  func(Journey)
	clients atomic.Int64
	written atomic.Int64 // Unix nanoseconds
	pending atomic.Int64 // jobs that are not written, and 1 until queued
	queued  atomic.Bool  // no more jobs will be added
	ended   atomic.Bool
}

// tracing samples events.
type tracing struct {
	every  uint64
	seen   atomic.Uint64
	report func(Journey)
}

// Trace samples 1 in every events, and calls report with each journey. The goroutine that wrote to the last client
// calls report, so report must be quick. With every 0, the default, there are no journeys and no cost.
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
			Journey: Journey{
				Group: ev.Group, Source: ev.Source, Bytes: len(ev.Text), Sent: ev.Published(), Arrived: time.Now(),
			},
			report: t.report,
		}
		j.pending.Store(1)
		ev.Trace = j
	}
}

// Discarded implements [relay.Trace].
func (j *journey) Discarded(reason string) {
	j.setOutcome(reason)
	j.endQueueing()
}

// journeyOf returns the journey of a sampled event, else nil.
func journeyOf(ev *relay.Event) *journey {
	j, _ := ev.Trace.(*journey)
	return j
}

// recordFanOut records the time at which plugins have processed events.
func recordFanOut(events []relay.Event) {
	for i := range events {
		if j := journeyOf(&events[i]); j != nil && j.FannedOut.IsZero() {
			j.FannedOut = time.Now()
		}
	}
}

// setOutcome records why no client gets the event, or an event that a plugin has derived.
func (j *journey) setOutcome(reason string) {
	if j != nil {
		j.Outcome = reason
	}
}

// addJob counts a job for a shard.
func (j *journey) addJob() {
	if j != nil {
		j.pending.Add(1)
	}
}

// endQueueing records that all jobs are queued.
func (j *journey) endQueueing() {
	if j != nil && j.queued.CompareAndSwap(false, true) {
		j.endJob()
	}
}

// recordWrite records that a job has been written to all its clients.
func (j *journey) recordWrite(now time.Time, clients int) {
	j.clients.Add(int64(clients))
	j.written.Store(now.UnixNano())
	j.endJob()
}

// endJob counts the end of a job, and reports the journey after the last job.
func (j *journey) endJob() {
	if j.pending.Add(-1) != 0 || !j.ended.CompareAndSwap(false, true) {
		return
	}
	done := j.Journey
	if nanos := j.written.Load(); nanos != 0 {
		done.Clients, done.Written, done.Outcome = int(j.clients.Load()), time.Unix(0, nanos), "delivered"
	}
	j.report(done)
}
