package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// startCanary starts a canary of a spec.
func startCanary(t testing.TB, p *Pipeline, spec Spec, c Canary) {
	t.Helper()
	if c.ID == "" {
		c.ID = "canary"
	}
	pc, err := p.PrepareCanary(t.Context(), spec, c)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if err := p.StartCanary(pc); err != nil {
		t.Fatal(err)
	}
}

// canarySpecs returns a stable and a candidate actor, which tell their names by {"do":"config"}.
func canarySpecs(t testing.TB) (stable, candidate Spec) {
	stable = actor(t)
	stable.Config = json.RawMessage(`"stable"`)
	candidate = stable
	candidate.Config = json.RawMessage(`"candidate"`)
	return stable, candidate
}

// decidedBy returns which of the modules of canarySpecs decides for a group.
func decidedBy(t testing.TB, p *Pipeline, group string) string {
	t.Helper()
	out := p.Process(Event{Group: group, Payload: do("config")}, nil)
	if len(out) != 1 {
		t.Fatalf("%s: %d outputs", group, len(out))
	}
	return strings.Trim(string(out[0].Payload), `"`)
}

// candidateGroups returns the groups for which the candidate decides, of g0 to g999.
func candidateGroups(t testing.TB, p *Pipeline) map[string]bool {
	t.Helper()
	of := map[string]bool{}
	for i := range 1000 {
		if group := fmt.Sprint("g", i); decidedBy(t, p, group) == "candidate" {
			of[group] = true
		}
	}
	return of
}

// TestCanaryDecidesForItsShare: the candidate decides for about the share of the groups, for the same ones in each
// pipeline, and a larger share includes them.
func TestCanaryDecidesForItsShare(t *testing.T) {
	stable, candidate := canarySpecs(t)
	p, other := pipeline(t, Options{}, stable), pipeline(t, Options{}, stable)
	if n := len(candidateGroups(t, p)); n != 0 {
		t.Fatalf("without a canary, the candidate decides for %d groups", n)
	}
	startCanary(t, p, candidate, Canary{Share: 0.1})
	startCanary(t, other, candidate, Canary{Share: 0.1})
	tenth := candidateGroups(t, p)
	if len(tenth) < 70 || len(tenth) > 130 {
		t.Errorf("the candidate decides for %d of 1000 groups, want about 100", len(tenth))
	}
	if there := candidateGroups(t, other); fmt.Sprint(there) != fmt.Sprint(tenth) {
		t.Errorf("nodes choose different groups: %v and %v", tenth, there)
	}
	if err := p.ResizeCanary("actor", "canary", 0.5); err != nil {
		t.Fatal(err)
	}
	half := candidateGroups(t, p)
	if len(half) < 430 || len(half) > 570 {
		t.Errorf("the candidate decides for %d of 1000 groups, want about 500", len(half))
	}
	for group := range tenth {
		if !half[group] {
			t.Errorf("%s has left the candidate with a larger share", group)
		}
	}
	if err := p.ResizeCanary("actor", "canary", 1); err != nil {
		t.Fatal(err)
	}
	if n := len(candidateGroups(t, p)); n != 1000 {
		t.Errorf("the candidate decides for %d of 1000 groups, want all", n)
	}
	if err := p.EndCanary("actor", "canary"); err != nil {
		t.Fatal(err)
	}
	if n := len(candidateGroups(t, p)); n != 0 {
		t.Errorf("after the canary, the candidate decides for %d groups", n)
	}
	for _, err := range []error{
		p.EndCanary("actor", "canary"), p.ResizeCanary("actor", "canary", 0.5), other.EndCanary("actor", "another"),
	} {
		if !errors.Is(err, ErrNoCanary) {
			t.Errorf("a change of a canary that does not run: %v", err)
		}
	}
	if err := p.EndCanary("nobody", "canary"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a canary of an unknown plugin: %v", err)
	}
}

// TestCanaryKeepsTheStableModulesState: a canary touches neither the instances nor the counters of other groups.
func TestCanaryKeepsTheStableModulesState(t *testing.T) {
	stable, candidate := canarySpecs(t)
	p := pipeline(t, Options{}, stable)
	startCanary(t, p, candidate, Canary{Share: 0.5})
	var of [2]string // a group of the stable module, and one of the candidate
	for i := 0; of[0] == "" || of[1] == ""; i++ {
		group := fmt.Sprint("g", i)
		if decidedBy(t, p, group) == "stable" {
			of[0] = group
		} else {
			of[1] = group
		}
	}
	calls := func(group string) string {
		out := p.Process(Event{Group: group, Payload: do("calls")}, nil)
		return show(out)
	}
	before := calls(of[0])
	for range 3 {
		calls(of[1])
	}
	if after := calls(of[0]); before == after || len(after) != len(before) && before != "9" {
		t.Errorf("the stable module's count is %s after %s", after, before)
	}
	p.Process(Event{Group: of[1], Payload: do("kv_set", "with", "kept")}, nil)
	if err := p.EndCanary("actor", "canary"); err != nil {
		t.Fatal(err)
	}
	if out := show(p.Process(Event{Group: of[1], Payload: do("kv_get")}, nil)); !strings.Contains(out, "kept") {
		t.Errorf("the store has %s after the canary, want what the candidate has stored", out)
	}
	h := p.Health()[0]
	if h.Canary != nil || h.Calls < 7 {
		t.Errorf("after the canary, health has the canary %+v and %d calls", h.Canary, h.Calls)
	}
}

// groupOf returns a group for which the candidate of a plugin decides, or the stable module.
func groupOf(p *Pipeline, plugin int, candidate bool) string {
	c := (*p.order.Load())[plugin].deployment.Load().canary
	for i := 0; ; i++ {
		if group := fmt.Sprint("g", i); c.takes(group) == candidate {
			return group
		}
	}
}

// TestCanaryIsRefused lists the plugins that cannot have a canary.
func TestCanaryIsRefused(t *testing.T) {
	pass := Spec{Name: "p", Wasm: fixture(t, "pass"), Groups: []string{"g*"}, Grants: Grants}
	ticker, stateful := pass, pass
	ticker.Wasm, ticker.Tick = fixture(t, "ticker"), time.Hour
	stateful.Wasm = fixture(t, "actor")
	shadow := pass
	shadow.Shadow = true
	most := 0.5
	for _, c := range []struct {
		name              string
		stable, candidate Spec
		canary            Canary
		want              string
	}{
		{"a candidate with ticks", pass, ticker, Canary{Share: 0.1}, "ticks belong to no group"},
		{"a stable module with ticks", ticker, pass, Canary{Share: 0.1}, "ticks belong to no group"},
		{"a shadow", shadow, pass, Canary{Share: 0.1}, "a shadow decides nothing"},
		{"no share", pass, pass, Canary{}, "share 0"},
		{"too large a share", pass, pass, Canary{Share: 1.1}, "share 1.1"},
		{
			"differences of a stateful module", pass, stateful,
			Canary{Share: 0.1, Limits: CanaryLimits{MaxDiffer: &most}},
			"depend on earlier events",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pipeline(t, Options{}, c.stable)
			c.canary.ID = "canary"
			_, err := p.PrepareCanary(t.Context(), c.candidate, c.canary)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestCanaryClassifies: the classes of a group are those of the module that decides for it, and a change of the share
// has them decided again.
func TestCanaryClassifies(t *testing.T) {
	stable, candidate := canarySpecs(t)
	p := pipeline(t, Options{}, stable)
	changes := 0
	p.OnReclassify(func() { changes++ })
	before := p.Generation("g1")
	startCanary(t, p, candidate, Canary{Share: 0.5})
	moved, kept := groupOf(p, 0, true), groupOf(p, 0, false)
	if changes != 1 || p.Generation(kept) != before || p.Generation(moved) == before {
		t.Fatalf("%d changes; generations %x and %x, before %x", changes, p.Generation(kept), p.Generation(moved), before)
	}
	for _, group := range []string{moved, kept} {
		d, err := p.Subscribe(t.Context(), nil, group)
		if err != nil || d.Generation != p.Generation(group) {
			t.Errorf("%s: a decision of generation %x (%v), want %x", group, d.Generation, err, p.Generation(group))
		}
		out := p.Process(Event{Group: group, Payload: do("pass")}, nil)
		if len(out) != 1 || out[0].Generation != d.Generation {
			t.Errorf("%s: an output of generation %x, want %x", group, out[0].Generation, d.Generation)
		}
	}
	// What the stable module has left to on_class, the candidate must not render, nor the other way round.
	out := p.Process(Event{Group: moved, Payload: do("pass")}, nil)
	if err := p.EndCanary("actor", "canary"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Render(0, Event{Group: moved, Payload: do("pass")}, &out[0]); !errors.Is(err, ErrReclassified) {
		t.Errorf("the stable module renders an event of the candidate: %v", err)
	}
	if changes != 2 || p.Generation(moved) != before {
		t.Errorf("after the canary, %d changes and generation %x, want %x", changes, p.Generation(moved), before)
	}
}

// TestDeploymentDuringACanary: another stable module leaves the candidate its groups, and one with ticks ends the
// canary.
func TestDeploymentDuringACanary(t *testing.T) {
	stable, candidate := canarySpecs(t)
	stable.Tick = time.Hour
	p := pipeline(t, Options{}, stable)
	startCanary(t, p, candidate, Canary{Share: 0.5})
	moved, kept := groupOf(p, 0, true), groupOf(p, 0, false)
	if err := p.Deploy(t.Context(), "actor", fixture(t, "pass")); err != nil {
		t.Fatal(err)
	}
	if by := decidedBy(t, p, moved); by != "candidate" {
		t.Errorf("%s decides for the candidate's group", by)
	}
	if by := decidedBy(t, p, kept); !strings.Contains(by, "do") {
		t.Errorf("the stable module's group gets %s, want its own event", by)
	}
	if err := p.Deploy(t.Context(), "actor", fixture(t, "ticker")); err != nil {
		t.Fatal(err)
	}
	if r := p.Health()[0].Canary; r != nil {
		t.Errorf("a module with ticks runs beside a candidate: %+v", r)
	}
}

// TestCanaryUnderLoad: while canaries start, grow and end, every event has one output, in order.
func TestCanaryUnderLoad(t *testing.T) {
	stable, candidate := canarySpecs(t)
	p := pipeline(t, Options{}, stable)
	ctx, stop := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for i := range 8 {
		senders.Go(func() {
			group := fmt.Sprint("g", i)
			for n := 0; ctx.Err() == nil; n++ {
				want := fmt.Sprint(n)
				out, withheld := p.Run(Event{Group: group, Payload: do("replace", "with", want)}, nil)
				if len(out) != 1 || withheld || string(out[0].Payload) != want {
					t.Errorf("%s: event %d became %s, withheld %t", group, n, show(out), withheld)
					return
				}
			}
		})
	}
	for i := range 6 {
		c := Canary{ID: fmt.Sprint(i), Share: 0.2}
		startCanary(t, p, candidate, c)
		for _, share := range []float64{0.5, 1, 0.1} {
			if err := p.ResizeCanary("actor", c.ID, share); err != nil {
				t.Error(err)
			}
		}
		if i%2 == 0 {
			if err := p.EndCanary("actor", c.ID); err != nil {
				t.Error(err)
			}
		}
	}
	stop()
	senders.Wait()
}

// TestCanaryDividesClients: the clients of a path have the same module, also after other ones have come, and failures
// of a candidate's hooks count.
func TestCanaryDividesClients(t *testing.T) {
	stable := Spec{Name: "f", Wasm: fixture(t, "function"), Groups: []string{"g*"}, Grants: Grants, Instances: 1}
	candidate := stable
	candidate.Config = json.RawMessage(`{"candidate": true}`)
	p := pipeline(t, Options{}, stable)
	startCanary(t, p, candidate, Canary{Share: 0.5})
	d := (*p.order.Load())[0].deployment.Load()
	var events [2]uint64
	for i := range 40 {
		path := fmt.Sprintf("/ws/game/%d/", i/2) // two clients of each room
		request := []byte(fmt.Sprintf(`{"path":%q}`, path))
		c, _, err := p.Connect(t.Context(), "f", NewConnectionID(), request)
		if err != nil {
			t.Fatal(err)
		}
		if c.place != path {
			t.Fatalf("the place is %q, want %q", c.place, path)
		}
		if d.canary.takes(path) {
			events[0]++
		} else {
			events[1]++
		}
	}
	r := p.Health()[0].Canary
	if r.Candidate.Events != events[0] || r.Stable.Events != events[1] || events[0] == 0 || events[1] == 0 {
		t.Errorf("the report is %+v, want %d events of the candidate and %d of the stable module", r, events[0], events[1])
	}
	without := stable
	without.Wasm = fixture(t, "pass")
	_, err := p.PrepareCanary(t.Context(), without, Canary{ID: "other", Share: 0.5})
	if err == nil || !strings.Contains(err.Error(), "lacks") {
		t.Errorf("a candidate without the hooks for clients: %v", err)
	}
}
