package backplane

import (
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// lateAfter is the lag on arrival from which a peer's events are late, and lateOver that below which they no longer
	// are.
	lateAfter, lateOver = 5 * time.Second, time.Second
	// lagWindow is half of the time for which the largest lag on arrival is reported.
	lagWindow = 15 * time.Second
)

// lateness watches how late the events of a peer arrive: the time since they were queued at the peer. The clock of the
// peer does not matter for that. A lateness may be used concurrently; the zero value is ready for use.
type lateness struct {
	mu      sync.Mutex
	current time.Duration // largest lag of this window
	before  time.Duration // and of the one before
	began   time.Time     // of this window
	series  lateSeries
}

// lateSeries is a time in which events are late.
type lateSeries struct {
	began time.Time // zero if there is none
	worst time.Duration
	count int // of events
}

// observe records the lag of events. It reports whether they begin a series of late ones, and the series that they end.
func (d *lateness) observe(lag time.Duration, events int, now time.Time) (begins bool, ended lateSeries) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	d.current = max(d.current, lag)
	s := &d.series
	switch late := !s.began.IsZero(); {
	case !late && lag < lateAfter:
	case late && lag < lateOver:
		ended = *s
		*s = lateSeries{}
	default:
		if begins = !late; begins {
			s.began = now
		}
		s.worst = max(s.worst, lag)
		s.count += events
	}
	return begins, ended
}

// turn begins another window if it is time. d.mu is held.
func (d *lateness) turn(now time.Time) {
	switch age := now.Sub(d.began); {
	case age < lagWindow:
		return
	case age < 2*lagWindow:
		d.before, d.current, d.began = d.current, 0, d.began.Add(lagWindow)
	default:
		d.before, d.current, d.began = 0, 0, now
	}
}

// largest returns the largest lag of the last 15 to 30 seconds, 0 without events.
func (d *lateness) largest(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	return max(d.current, d.before)
}

// observeLag records how late a batch arrives, and relates its events' time of publication to this node's clock.
func (l *link) observeLag(head timedHead, batch *numberedBatch) {
	now := time.Now()
	traveled, known := l.in.clock.since(head.sent, now)
	if !known || len(batch.events) == 0 {
		return
	}
	behind, within, _ := l.in.clock.behind(now)
	for i := range batch.events {
		setClock(&batch.events[i], behind, within, now)
	}
	if batch.skipped == 0 { // otherwise, the wait is that of an event that had arrived before
		l.logLag(max(traveled, 0)+head.waited, len(batch.events), now)
	}
}

// logLag records the lag of events, and logs the beginning and the end of a series of late ones.
func (l *link) logLag(lag time.Duration, events int, now time.Time) {
	begins, ended := l.in.lateness.observe(lag, events, now)
	if begins {
		l.b.log.Warn("events of peer late", "peer", l.String(), "lag", lag.Round(time.Millisecond),
			"remedy", "check the network between the nodes, and its bandwidth")
	}
	if ended.count > 0 {
		l.b.log.Info("events of peer in time again", "peer", l.String(), "count", ended.count,
			"lag", ended.worst.Round(time.Millisecond), "duration", now.Sub(ended.began).Round(time.Millisecond))
	}
}

// setClock records the lag of the emitter's clock, which is taken for that of the peer. The error of the measurement
// does not make an event arrive before its publication.
func setClock(ev *relay.Event, behind, within time.Duration, now time.Time) {
	if ev.Sent.IsZero() {
		return
	}
	ev.ClockBehind = behind
	if early := ev.Published().Sub(now); early > 0 && early <= within {
		ev.ClockBehind -= early
	}
}
