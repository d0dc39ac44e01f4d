package plugins

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCandidateRunsAsShadow: the candidate sees the events of some other groups, and differing decisions are a fault if
// they are limited.
func TestCandidateRunsAsShadow(t *testing.T) {
	stable := Spec{Name: "p", Wasm: fixture(t, "pass"), Groups: []string{"*"}, Instances: 1}
	candidate := stable
	candidate.Wasm = fixture(t, "filter") // passes groups p…, and drops others that have no failed status
	p := pipeline(t, Options{}, stable)
	most := 0.01
	startCanary(t, p, candidate, Canary{Share: 0.1, Limits: CanaryLimits{MaxErrors: 0.01, MaxDiffer: &most}})
	c := (*p.order.Load())[0].deployment.Load().canary
	passed, sampled := 0, 0
	for i := range 600 {
		group := fmt.Sprint("s", i)
		passed += len(p.Process(Event{Group: group, Payload: []byte(`{}`)}, nil))
		if c.samples(group) {
			sampled++
		}
	}
	if passed < 480 {
		t.Errorf("%d of 600 events passed, want those of nine groups in ten", passed)
	}
	if sampled < 30 || sampled > 90 {
		t.Errorf("%d of 600 groups are sampled, want about 60", sampled)
	}
	(*p.order.Load())[0].deployment.Load().canary.trial.beside.settle(t)
	r, _ := p.JudgeCanary("p")
	if r.Differ != uint64(sampled) || r.Same != 0 || !strings.Contains(r.Fault, "beside the stable module differed") {
		t.Errorf("the report is %+v, want %d differing decisions and a fault", r, sampled)
	}
	if list, err := p.Differences("p"); err != nil || len(list) != shadowDifferences {
		t.Errorf("%d differences are listed (%v), want %d", len(list), err, shadowDifferences)
	}
	if err := p.EndCanary("p", "canary"); err != nil {
		t.Fatal(err)
	}
}

// settle waits until the shadow has no more events.
func (p *plugin) settle(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		p.shadow.mu.Lock()
		idle := p.shadow.phase == shadowIdle
		p.shadow.mu.Unlock()
		if idle {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the shadow has events left")
		}
	}
}
