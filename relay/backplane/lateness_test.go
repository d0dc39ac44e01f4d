package backplane

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

func TestLateEventsAreASeries(t *testing.T) {
	var d lateness
	now := time.Now()
	for i, step := range []struct {
		lag    time.Duration
		begins bool
		ended  int // events of the series that ends
	}{
		{4 * time.Second, false, 0},
		{6 * time.Second, true, 0},
		{9 * time.Second, false, 0},
		{2 * time.Second, false, 0}, // neither late nor in time
		{500 * time.Millisecond, false, 30},
		{0, false, 0},
		{lateAfter, true, 0},
	} {
		begins, ended := d.observe(step.lag, 10, now)
		if begins != step.begins || ended.count != step.ended || ended.count > 0 && ended.worst != 9*time.Second {
			t.Errorf("step %d: begins %v, ended %+v", i, begins, ended)
		}
	}
}

func TestLargestLagIsThatOfAWindow(t *testing.T) {
	var d lateness
	now := time.Now()
	d.observe(3*time.Second, 1, now)
	d.observe(time.Second, 1, now.Add(20*time.Second))
	for after, want := range map[time.Duration]time.Duration{
		29 * time.Second: 3 * time.Second, 31 * time.Second: time.Second, 44 * time.Second: time.Second, time.Minute: 0,
	} {
		copied := lateness{current: d.current, before: d.before, began: d.began}
		if got := copied.largest(now.Add(after)); got != want {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
}

// The lag on arrival is that of the queue and of the network, whatever the clocks say; events are related to this
// node's clock.
func TestLagDoesNotDependOnClocks(t *testing.T) {
	var log testkit.Buffer
	l := newTestLink(t)
	l.b.log = slog.New(slog.NewTextHandler(&log, nil))
	l.in, l.timed = l.b.incomingOf("peer"), true
	now := time.Now()
	const ahead, wall = int64(-77_000_000), int64(-40_000_000) // of the peer's steady and wall clock, in microseconds
	own := steadyMicros(now)
	head := timedHead{sent: own + ahead - 250_000, waited: 6 * time.Second}
	arrive := func() relay.Event {
		published := now.Add(micros(wall) - 6*time.Second)
		batch := numberedBatch{events: []relay.Event{{Group: "job-1", Sent: time.UnixMicro(published.UnixMicro())}}}
		l.observeLag(head, &batch)
		return batch.events[0]
	}
	if ev := arrive(); ev.ClockBehind != 0 || l.in.lateness.largest(now) != 0 {
		t.Fatalf("a lag of %v, and a clock %v behind, before the clock is known", l.in.lateness.largest(now), ev.ClockBehind)
	}
	l.in.clock.add(clockSample{
		asked: own - 1000, arrived: own + ahead, answered: own + ahead, received: own + 1000,
		wallBase: wallBase(now) + wall - ahead,
	})
	ev := arrive()
	if lag, want := l.in.lateness.largest(now), 6250*time.Millisecond; lag < want || lag > want+time.Second {
		t.Errorf("the lag is %v, want %v", lag, want)
	}
	if passed := now.Sub(ev.Published()); (passed - 6*time.Second).Abs() > 2*time.Millisecond {
		t.Errorf("published %v ago, want 6 s; the clock is %v behind", passed, ev.ClockBehind)
	}
	if !strings.Contains(log.String(), "events of peer late") {
		t.Errorf("logged %q", log.String())
	}
	head = timedHead{sent: steadyMicros(time.Now()) + ahead}
	if arrive(); !strings.Contains(log.String(), "events of peer in time again") || !strings.Contains(log.String(), "count=1") {
		t.Errorf("logged %q", log.String())
	}
}

// An event that seems to arrive before its publication by less than the error of the clocks arrives at publication.
func TestErrorOfClocksIsNoSkew(t *testing.T) {
	now := time.Now()
	for early, want := range map[time.Duration]time.Duration{
		3 * time.Millisecond: 0, 30 * time.Millisecond: 30 * time.Millisecond, -time.Second: -time.Second,
	} {
		ev := relay.Event{Sent: now.Add(early - time.Minute)}
		setClock(&ev, time.Minute, 5*time.Millisecond, now)
		if got := ev.Published().Sub(now); got != want {
			t.Errorf("%v early: %v, want %v", early, got, want)
		}
	}
	ev := relay.Event{}
	if setClock(&ev, time.Minute, 0, now); !ev.Published().IsZero() {
		t.Error("a time of publication from nothing")
	}
}
