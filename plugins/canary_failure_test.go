package plugins

import (
	"strings"
	"testing"
	"time"
)

// With last_good, the stable module decides about events that the candidate cannot process; otherwise they are
// withheld.
func TestFailingCandidateFollowsOnError(t *testing.T) {
	for _, c := range []struct {
		on   OnError
		want int
	}{{OnErrorWithhold, 0}, {OnErrorPass, 1}, {OnErrorLastGood, 1}} {
		t.Run(string(c.on), func(t *testing.T) {
			stable := Spec{Name: "p", Wasm: fixture(t, "pass"), Groups: []string{"g*"}, OnError: c.on}
			candidate := actor(t)
			candidate.Name, candidate.OnError = "p", c.on
			p := pipeline(t, Options{}, stable)
			startCanary(t, p, candidate, Canary{Share: 0.5})
			out, withheld := p.Run(Event{Group: groupOf(p, 0, true), Payload: do("error")}, nil)
			if len(out) != c.want || withheld != (c.on == OnErrorWithhold) {
				t.Errorf("%d outputs, withheld %t; want %d", len(out), withheld, c.want)
			}
			if out := p.Process(Event{Group: groupOf(p, 0, false), Payload: do("error")}, nil); len(out) != 1 {
				t.Errorf("the stable module's group has %d outputs", len(out))
			}
			r := p.Health()[0].Canary
			if r == nil || r.Candidate.Events != 1 || r.Candidate.Failures != 1 ||
				r.Stable.Events != 1 || r.Stable.Failures != 0 {
				t.Errorf("the report is %+v, want a failure of the candidate and an event of the stable module", r)
			}
			if n := p.Health()[0].Unprocessed["last_good"]; (n == 1) != (c.on == OnErrorLastGood) {
				t.Errorf("%d events were decided by the stable module", n)
			}
		})
	}
}

// TestFailingCandidateIsFound: JudgeCanary names the fault of a candidate that fails one event in ten, after a few of
// them, and none of one that works.
func TestFailingCandidateIsFound(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	stable, candidate := canarySpecs(t)
	p := pipeline(t, Options{Now: clock}, stable)
	startCanary(t, p, candidate, Canary{Share: 0.5, Limits: CanaryLimits{MaxErrors: 0.01}})
	good, bad := groupOf(p, 0, false), groupOf(p, 0, true)
	send := func(group, what string) {
		p.Process(Event{Group: group, Payload: do(what)}, nil)
	}
	for i := range 2000 {
		send(good, "pass")
		send(bad, "pass")
		if i%100 == 0 {
			now = now.Add(time.Second)
			if r, ok := p.JudgeCanary("actor"); !ok || r.Fault != "" {
				t.Fatalf("after %d good events: %+v", i, r)
			}
		}
	}
	for i := 1; ; i++ {
		send(good, "pass")
		if what := "pass"; i%10 == 0 {
			send(bad, "error")
		} else {
			send(bad, what)
		}
		if i%10 == 0 {
			now = now.Add(time.Second)
		}
		r, _ := p.JudgeCanary("actor")
		if r.Fault != "" {
			if !strings.Contains(r.Fault, "events failed, more than 1%") {
				t.Errorf("the fault is %q", r.Fault)
			}
			break
		}
		if i > 60 {
			t.Fatalf("after %d events of which a tenth failed, there is no fault: %+v", i, r)
		}
	}
	now = now.Add(time.Hour)
	if r, _ := p.JudgeCanary("actor"); r.Fault == "" {
		t.Error("the fault is forgotten")
	}
}
