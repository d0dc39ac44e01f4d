package plugins

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	var now atomic.Int64
	clock := func() time.Time { return time.Unix(1_700_000_000, now.Load()) }
	spec := actor(t)
	spec.OnError, spec.MaxFailures, spec.Cooldown = OnErrorDrop, 3, time.Second
	p := pipeline(t, Options{Now: clock}, spec)
	state := func() Health { return p.Health()[0] }
	run := func(what string) string {
		return show(p.Process(Event{Group: "g1", Payload: do(what, "with", "{}")}, nil))
	}

	for range 2 {
		run("trap")
	}
	for range 2 {
		if run("replace") != "g1 {}" || state().Breaker != "closed" {
			t.Error("a success between failures does not count")
		}
	}
	for range 3 {
		if got := run("trap"); got != "" {
			t.Errorf("on_error drop gives %q", got)
		}
	}
	calls := state().Calls
	if run("replace") != "" || state().Breaker != "open" || state().Calls != calls || state().CallsSkipped != 1 {
		t.Errorf("after three failures the plugin is still called: %+v", state())
	}
	now.Add(int64(time.Second))
	if state().Breaker != "half-open" || run("trap") != "" || state().Calls != calls+1 || run("replace") != "" ||
		state().Breaker != "open" {
		t.Errorf("a failed trial does not reopen the breaker: %+v", state())
	}
	now.Add(int64(time.Second)) // twice the time now
	if run("replace") != "" {
		t.Error("the cooldown did not double")
	}
	now.Add(int64(time.Second))
	if run("replace") != "g1 {}" || state().Breaker != "closed" {
		t.Errorf("a successful trial does not close the breaker: %+v", state())
	}
}

// TestFailuresAreVoid: events emitted by a failed call are not delivered; with on_error pass the event passes
// unchanged.
func TestFailuresAreVoid(t *testing.T) {
	spec := actor(t)
	spec.OnError = OnErrorPass
	p := pipeline(t, Options{}, spec)
	calls := 0
	for _, what := range []string{
		"emit_then_fail", "error", "text", "range", "huge", "reserved", "trap", "loop", "recurse", "pointer",
	} {
		ev := do(what)
		if got := show(p.Process(Event{Group: "g1", Payload: ev}, nil)); got != "g1 "+string(ev) {
			t.Errorf("%s gives %.200q, want the event unchanged", what, got)
		}
		switch calls++; what {
		case "huge", "text", "error": // the guest returned in order and keeps its state
		default:
			calls = 0
		}
		calls++
		if got := show(p.Process(Event{Group: "g1", Payload: do("calls")}, nil)); got != fmt.Sprint("g1 ", calls) {
			t.Errorf("after %s the instance counts %q, want %d", what, got, calls)
		}
	}
	if h := p.Health()[0]; !strings.Contains(h.LastError, "lies outside its memory") || len(h.Failures) != 7 {
		t.Errorf("health: %+v", h)
	}
	spec.JSON = true
	if err := p.Apply(context.Background(), []Spec{spec}); err != nil {
		t.Fatal(err)
	}
	ev := do("not_json")
	if got := show(p.Process(Event{Group: "g1", Payload: ev}, nil)); got != "g1 "+string(ev) || p.Health()[0].Failures[KindText] != 2 {
		t.Errorf("a result that is not JSON gives %q", got)
	}
}
