package webhttp

import (
	"math/rand/v2"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// The deadlines of a Hold.
const (
	dueKeepAlive = iota
	// dueNext: a stream asks the site, or the wait of a client ends.
	dueNext
	// dueAsk: the wait for a missing item, or the pause before a repeated request, ends.
	dueAsk
	dueCount
)

// holdTimers are the deadlines of a Hold, which share a timer. Hold.mu guards them.
type holdTimers struct {
	at    [dueCount]int64 // relay.Ticks; 0: none
	timer *time.Timer
	armed int64 // for which the timer runs; 0: it does not
}

// set sets a deadline without starting the timer; 0 removes it.
func (t *holdTimers) set(which int, at int64) { t.at[which] = at }

// after sets a deadline. A duration of 0 removes it.
func (t *holdTimers) after(h *Hold, which int, d time.Duration) {
	if d <= 0 {
		t.at[which] = 0
		return
	}
	t.at[which] = relay.Ticks(time.Now().Add(d))
	t.arm(h)
}

// postpone moves a deadline that is set. The timer finds that out when it fires.
func (t *holdTimers) postpone(which int, d time.Duration) {
	if t.at[which] != 0 {
		t.at[which] = relay.Ticks(time.Now().Add(d))
	}
}

// arm starts the timer for the next deadline, unless it fires earlier.
func (t *holdTimers) arm(h *Hold) {
	next := int64(0)
	for _, at := range t.at {
		if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if next == 0 || t.armed != 0 && t.armed <= next {
		return
	}
	t.armed = next
	d := max(0, time.Until(relay.At(next)))
	if t.timer == nil {
		t.timer = time.AfterFunc(d, h.tick)
		return
	}
	t.timer.Reset(d)
}

// stop removes all deadlines.
func (t *holdTimers) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
	*t = holdTimers{}
}

// take removes the deadlines that have passed, and returns them.
func (t *holdTimers) take(now time.Time) (due [dueCount]bool) {
	t.armed = 0
	for i, at := range t.at {
		if at != 0 && at <= relay.Ticks(now) {
			due[i], t.at[i] = true, 0
		}
	}
	return due
}

// tick handles the deadlines that have passed.
func (h *Hold) tick() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase == over {
		return
	}
	due := h.timers.take(time.Now())
	if due[dueKeepAlive] {
		h.sendKeepAlive()
	}
	switch {
	case h.phase == over:
		return
	case due[dueAsk] && h.phase == waiting:
		h.startAsking()
	case due[dueNext] && h.waits() && h.phase != asking:
		h.respondOwn()
		return
	case due[dueNext] && h.phase == holding:
		h.since = time.Time{}
		h.startAsking()
	}
	h.timers.arm(h)
}

// sendKeepAlive appends the keep-alive to a stream, and starts the wait for the next. h.mu is held.
func (h *Hold) sendKeepAlive() {
	if h.out == nil {
		return
	}
	if !h.out.Append([]byte(h.keep), h.session.Limits().QueuePerConnection) {
		h.finish()
		return
	}
	h.restartKeepAlive()
}

// restartKeepAlive starts the wait for the next keep-alive, which differs a little between clients. h.mu is held.
func (h *Hold) restartKeepAlive() {
	h.timers.after(h, dueKeepAlive, jitter(h.keepFor, h.keepFor/20))
}

// restartNext starts the wait for the next request without a cause. h.mu is held.
func (h *Hold) restartNext() {
	for i := range h.channels {
		h.channels[i].active = false
	}
	h.timers.after(h, dueNext, jitter(h.nextFor, h.nextFor/10))
}

// jitter returns a duration that is shorter by a random part of less.
func jitter(d, less time.Duration) time.Duration {
	if less <= 0 {
		return d
	}
	return d - rand.N(less)
}
