package plugins

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// gateHandler blocks each record of a plugin until the gate is closed, so that a call is in flight for as long as a
// test wants.
type gateHandler struct {
	entered chan struct{} // receives a value when a record blocks
	gate    chan struct{}
}

func (h gateHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h gateHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h gateHandler) WithGroup(string) slog.Handler            { return h }

func (h gateHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "a line" {
		select {
		case h.entered <- struct{}{}:
		default:
		}
		<-h.gate
	}
	return nil
}

// TestHealthDoesNotWaitForCalls: while a call is in flight, health and logs are readable, with the counts of the calls
// before.
func TestHealthDoesNotWaitForCalls(t *testing.T) {
	h := gateHandler{entered: make(chan struct{}, 1), gate: make(chan struct{})}
	p := pipeline(t, Options{Logger: slog.New(h)}, actor(t))
	for range 3 {
		p.Process(Event{Group: "g1", Payload: do("trap")}, nil)
	}
	p.Process(Event{Group: "g1", Payload: do("pass")}, nil) // in the instance that replaces the failed one
	before := p.Health()[0]
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Process(Event{Group: "g1", Payload: do("log")}, nil)
	}()
	<-h.entered
	answers := make(chan error)
	go func() {
		got := p.Health()[0]
		if got.Calls != before.Calls || got.Failures[KindTrap] != 3 || got.Memory < before.Memory || got.Memory == 0 {
			answers <- fmt.Errorf("during a call: %+v; want the state before it: %+v", got, before)
			return
		}
		_, err := p.Logs("actor")
		answers <- err
	}()
	select {
	case err := <-answers:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("health and logs wait for the call in flight")
	}
	close(h.gate)
	<-done
	if got := p.Health()[0]; got.Calls != before.Calls+1 || got.Passed != before.Passed+1 {
		t.Errorf("after the call: %+v", got)
	}
}

// TestDurations: each call counts in the histogram of its hook.
func TestDurations(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	const count = 3*timedCalls + 7
	for range count {
		p.Process(Event{Group: "g1", Payload: do("pass")}, nil)
	}
	if _, err := p.Subscribe(context.Background(), []byte(`{"do":"class"}`), "g1"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // reading counts the untimed calls once
		h := p.Health()[0].CallSeconds
		events := h["on_event"]
		if len(h) != 3 || events.Count != count || h["on_subscribe"].Count != 1 || events.Seconds <= 0 {
			t.Errorf("%+v", h)
		}
		for i := 1; i < len(events.Buckets); i++ {
			if events.Buckets[i] < events.Buckets[i-1] || events.Buckets[i] > events.Count {
				t.Errorf("buckets are not cumulative: %v of %d", events.Buckets, events.Count)
			}
		}
	}
}

// TestFailureRate: a plugin that fails two of five calls opens no breaker, and its failure rate is visible for a
// minute. A plugin that fails half of its calls opens a breaker.
func TestFailureRate(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	p := pipeline(t, Options{Now: func() time.Time { return now }}, actor(t))
	run := func(group, outcomes string) {
		for _, o := range outcomes {
			what := "pass"
			if o == 'F' {
				what = "error"
			}
			p.Process(Event{Group: group, Payload: do(what)}, nil)
		}
	}
	for range 40 {
		run("g1", "SFSFS")
	}
	h := p.Health()[0]
	if h.OpenBreakerCount != 0 || h.RecentCalls < 199 || h.RecentFailures != 80 {
		t.Errorf("two of five: %d breakers open, %d of %d recent calls failed", h.OpenBreakerCount, h.RecentFailures,
			h.RecentCalls)
	}
	now = now.Add(recentSpan + time.Second)
	run("g1", "SS")
	if h := p.Health()[0]; h.RecentCalls != 0 || h.RecentFailures != 0 {
		t.Errorf("a minute later %d of %d recent calls failed", h.RecentFailures, h.RecentCalls)
	}
	for range 11 {
		run("g2", "FS")
	}
	if h := p.Health()[0]; h.OpenBreakerCount != 1 || h.OpenBreakers[0].Group != "g2" {
		t.Errorf("one of two: open breakers %+v", h.OpenBreakers)
	}
}

// TestHealthDuringLongCall: while a guest runs, the counts of all earlier calls are readable.
func TestHealthDuringLongCall(t *testing.T) {
	spec := actor(t)
	spec.Fuel, spec.Timeout = maxFuel, 300*time.Millisecond
	p := pipeline(t, Options{}, spec)
	for range timedCalls + 5 { // some are not timed, and none is published
		p.Process(Event{Group: "g1", Payload: do("pass")}, nil)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Process(Event{Group: "g1", Payload: do("loop")}, nil)
	}()
	s := p.plugins["actor"].live().slot(0)
	testkit.Eventually(t, "the call is long", func() bool { return s.inFlight.Load() > 0 })
	if h := p.Health()[0]; h.Calls != timedCalls+5 || h.CallSeconds["on_event"].Count != timedCalls+5 {
		t.Errorf("during a long call %d calls and %d durations, want %d", h.Calls, h.CallSeconds["on_event"].Count,
			timedCalls+5)
	}
	if c, hash := p.Chain("g1"); c.Slowest(hash) != "actor" || s.currentPace() < int64(longCall) {
		t.Errorf("pace %v", time.Duration(s.currentPace()))
	}
	<-done
	h := p.Health()[0]
	if buckets := h.CallSeconds["on_event"]; h.Failures[KindTimeout] != 1 || h.Calls != timedCalls+6 ||
		buckets.Count != timedCalls+6 || buckets.Buckets[8] != timedCalls+5 || s.inFlight.Load() != 0 {
		t.Errorf("after the call: %+v", h)
	}
}
