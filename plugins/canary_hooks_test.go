package plugins

import (
	"strings"
	"testing"
	"time"
)

// A candidate whose on_class or on_subscribe fails is found, although its events are in order.
func TestFailingHooksOfACandidateAreFound(t *testing.T) {
	for hook, call := range map[string]func(p *Pipeline, group string, fail bool) error{
		"on_subscribe": func(p *Pipeline, group string, fail bool) error {
			user := `{"do":"pass"}`
			if fail {
				user = `{"do":"error"}`
			}
			_, err := p.Subscribe(t.Context(), []byte(user), group)
			return err
		},
		"on_class": func(p *Pipeline, group string, fail bool) error {
			class := uint8(1)
			if fail {
				class = 9 // for which the fixture traps
			}
			ev := Event{Group: group, Payload: do("pass")}
			out := p.Process(ev, nil)
			_, _, err := p.Render(class, ev, &out[0])
			return err
		},
	} {
		t.Run(hook, func(t *testing.T) {
			now := time.Unix(1_700_000_000, 0)
			stable, candidate := canarySpecs(t)
			stable.MaxFailures, candidate.MaxFailures = 1000, 1000
			p := pipeline(t, Options{Now: func() time.Time { return now }}, stable)
			startCanary(t, p, candidate, Canary{Share: 0.5, Limits: CanaryLimits{MaxErrors: 0.01}})
			good, bad := groupOf(p, 0, false), groupOf(p, 0, true)
			for range 100 {
				_ = call(p, good, false)
				_ = call(p, bad, false)
			}
			now = now.Add(time.Second)
			r, _ := p.JudgeCanary("actor")
			counts := map[string]*CanaryHook{"on_subscribe": r.OnSubscribe, "on_class": r.OnClass}[hook]
			if r.Fault != "" || counts == nil || counts.Candidate.Events != 100 || counts.Stable.Events != 100 || counts.Candidate.Failures != 0 {
				t.Fatalf("after good calls: %+v, %+v", r, counts)
			}
			for i := range 100 {
				_ = call(p, good, false)
				_ = call(p, bad, i%5 == 0)
			}
			now = now.Add(time.Second)
			if r, _ := p.JudgeCanary("actor"); !strings.Contains(r.Fault, "calls of "+hook+" failed, more than 1%") {
				t.Errorf("the fault is %q; %+v", r.Fault, r)
			}
		})
	}
}
