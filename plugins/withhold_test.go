package plugins

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// ways lists the ways in which processing can fail. Each gives the event, and may prepare the pipeline.
var ways = []struct {
	name    string
	event   []byte
	change  func(*Spec)
	prepare func(t *testing.T, p *Pipeline)
}{
	{name: "trap", event: do("trap")},
	{name: "out of fuel", event: do("loop")},
	{name: "recursion", event: do("recurse")},
	{name: "the plugin reports an error", event: do("error")},
	{name: "not UTF-8", event: do("text")},
	{name: "not JSON", event: do("not_json"), change: func(s *Spec) { s.JSON = true }},
	{name: "a result outside the memory", event: do("range")},
	{name: "a result that is too large", event: do("huge")},
	{name: "a result that the ABI does not know", event: do("reserved")},
	{name: "a pointer outside the memory", event: do("pointer")},
	{name: "it failed after it emitted", event: do("emit_then_fail")},
	{name: "an event that the guest refuses", event: append(do("pass"), make([]byte, 2<<20)...)},
	{
		name: "an event that the memory cannot hold", event: append(do("pass"), make([]byte, 3<<20)...),
		change: func(s *Spec) { s.Memory = 4 << 20 },
	},
	{name: "circuit breaker open", event: do("pass"), prepare: func(t *testing.T, p *Pipeline) {
		for range 5 {
			p.Process(Event{Group: "g1", Payload: do("trap")}, nil)
		}
		if h := p.Health()[0]; h.OpenBreakerCount != 1 || h.OpenBreakers[0] != (OpenBreaker{"on_event", "g1", false, false}) {
			t.Fatalf("open breakers: %+v", h.OpenBreakers)
		}
	}},
}

// TestPolicies: for every way in which processing can fail, on_error decides, for that event and group only.
func TestPolicies(t *testing.T) {
	for _, way := range ways {
		for _, policy := range []OnError{"", OnErrorWithhold, OnErrorDrop, OnErrorPass, OnErrorLastGood} {
			t.Run(fmt.Sprintf("%s/%s", way.name, policy), func(t *testing.T) {
				spec := actor(t)
				spec.OnError = policy
				if way.change != nil {
					way.change(&spec)
				}
				p := pipeline(t, Options{}, spec)
				if way.prepare != nil {
					way.prepare(t, p)
				}
				var told []string
				p.OnWithheld(func(group string, _ Position) { told = append(told, group) })
				before := p.Health()[0].Unprocessed
				out, withheldNow := p.Run(Event{Group: "g1", Payload: way.event}, nil)
				after := p.Health()[0].Unprocessed

				outcome, wantTold := "withheld", []string{"g1"}
				switch policy {
				case OnErrorPass:
					outcome, wantTold = "passed", nil
				case OnErrorDrop:
					outcome, wantTold = "dropped", nil
				}
				if passes := outcome == "passed"; passes != (len(out) == 1 &&
					bytes.Equal(out[0].Payload, way.event)) || !passes && len(out) > 0 {
					t.Errorf("%d outputs", len(out))
				}
				if !slices.Equal(told, wantTold) || withheldNow != (wantTold != nil) ||
					after[outcome] != before[outcome]+1 {
					t.Errorf("reported %q, withheld %v, counted %v after %v", told, withheldNow, after, before)
				}
				if got := show(p.Process(Event{Group: "g2", Payload: do("replace", "with", "{}")}, nil)); got != "g2 {}" {
					t.Errorf("the next event of another group gives %q", got)
				}
			})
		}
	}
}

// TestPoliciesWithoutInstance: an instance that does not start in time is a failure like any other.
func TestPoliciesWithoutInstance(t *testing.T) {
	for _, c := range []struct {
		policy OnError
		want   string
	}{{"", ""}, {OnErrorDrop, ""}, {OnErrorPass, "g1 {}"}} {
		spec := Spec{
			Name: "slow", Wasm: fixture(t, "slow_start"), Groups: []string{"*"}, Instances: 1,
			InitTimeout: time.Minute, OnError: c.policy, MaxFailures: 1000,
		}
		p := pipeline(t, Options{startWait: time.Millisecond}, spec)
		for p.Health()[0].Failures[KindStart] == 0 {
			if got := show(p.Process(Event{Group: "g1", Payload: []byte("{}")}, nil)); got != c.want {
				t.Fatalf("on_error %q: %q while no instance is ready", c.policy, got)
			}
		}
		if h := p.Health()[0]; h.OpenBreakerCount != 0 {
			t.Errorf("breakers are open, though no group is at fault: %+v", h.OpenBreakers)
		}
	}
}

// TestFailuresStayWhereTheyAre: failures of a group, hook, class or user do not concern another.
func TestFailuresStayWhereTheyAre(t *testing.T) {
	spec := actor(t)
	spec.MaxFailures = 2
	p := pipeline(t, Options{}, spec)
	ctx := context.Background()
	for range 5 {
		p.Process(Event{Group: "g1", Payload: do("trap")}, nil)
		p.renderNow(9, Event{Group: "g2", Payload: []byte("{}")})
		if d, err := p.Subscribe(ctx, []byte(`{"do":"trap"}`), "g3"); d.Allow || err == nil {
			t.Errorf("a subscription about which the plugin fails: %+v, %v", d, err)
		}
	}
	var open []string
	for _, s := range p.Health()[0].OpenBreakers {
		open = append(open, s.Hook+" "+s.Group)
	}
	if !slices.Equal(open, []string{"on_event g1", "on_class g2", "on_subscribe g3"}) {
		t.Errorf("open breakers: %q", open)
	}
	if got := show(p.Process(Event{Group: "g1", Payload: do("replace", "with", "{}")}, nil)); got != "" {
		t.Errorf("the breaker of g1 is open, and an event gives %q", got)
	}
	if got, ok, _ := p.renderNow(9, Event{Group: "g2", Payload: []byte("{}")}); ok {
		t.Errorf("the breaker of class 9 of g2 is open, and the class is shown %q", got)
	}
	for _, group := range []string{"g2", "g3", "g4"} {
		if got := show(p.Process(Event{Group: group, Payload: do("replace", "with", "{}")}, nil)); got != group+" {}" {
			t.Errorf("%s gives %q", group, got)
		}
	}
	for _, group := range []string{"g1", "g2", "g3"} {
		if got, ok, _ := p.renderNow(5, Event{Group: group, Payload: []byte("{}")}); !ok || string(got) != `{"for":5}` {
			t.Errorf("class 5 of %s is shown %q", group, got)
		}
		if d, err := p.Subscribe(ctx, []byte(`{"do":"class"}`), group); !d.Allow || d.Class != 5 || err != nil {
			t.Errorf("another user subscribes to %s: %+v, %v", group, d, err)
		}
	}
	if d, err := p.Subscribe(ctx, []byte(`{"do":"trap"}`), "g3"); d.Allow || err == nil {
		t.Errorf("the breaker is open, and a subscription is answered by %+v, %v", d, err)
	}
}

// TestLargeEventsOpenNoBreaker: events that are too large or cost too much fuel open no breaker, not even that of
// their own group.
func TestLargeEventsOpenNoBreaker(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	for _, event := range [][]byte{do("loop"), do("huge"), append(do("pass"), make([]byte, 2<<20)...)} {
		for range 10 {
			if got := show(p.Process(Event{Group: "g1", Payload: event}, nil)); got != "" {
				t.Fatalf("%.20s gives %.100q", event, got)
			}
			if got := show(p.Process(Event{Group: "g1", Payload: do("replace", "with", "{}")}, nil)); got != "g1 {}" {
				t.Fatalf("after %.20s a small event gives %q", event, got)
			}
		}
	}
	if h := p.Health()[0]; h.OpenBreakerCount != 0 || h.Unprocessed["withheld"] != 30 || h.Breaker != "closed" {
		t.Errorf("%+v", h)
	}
}

// TestTimeoutsSuspendTheirGroup: a run of calls that the timeout ended suspends calls for their group, and for no
// other.
func TestTimeoutsSuspendTheirGroup(t *testing.T) {
	spec := actor(t)
	spec.Fuel, spec.Timeout = maxFuel, 2*time.Millisecond
	p := pipeline(t, Options{}, spec)
	for range defaultMaxFailures {
		p.Process(Event{Group: "g1", Payload: do("loop")}, nil)
	}
	h := p.Health()[0]
	if h.Failures[KindTimeout] != defaultMaxFailures || h.OpenBreakerCount != 1 || h.OpenBreakers[0].Group != "g1" {
		t.Errorf("after %d timeouts: %v, open breakers %+v", defaultMaxFailures, h.Failures, h.OpenBreakers)
	}
	if got := show(p.Process(Event{Group: "g1", Payload: do("replace", "with", "{}")}, nil)); got != "" {
		t.Errorf("the breaker of g1 is open, and an event gives %q", got)
	}
	if got := show(p.Process(Event{Group: "g2", Payload: do("replace", "with", "{}")}, nil)); got != "g2 {}" {
		t.Errorf("an event of another group gives %q", got)
	}
}

// TestRefusedEventsKeepTheInstance: a refused event, or a result that is too large, does not cost the instance.
func TestRefusedEventsKeepTheInstance(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	p.Process(Event{Group: "g1", Payload: do("calls")}, nil)
	p.Process(Event{Group: "g1", Payload: append(do("pass"), make([]byte, 2<<20)...)}, nil)
	if got := show(p.Process(Event{Group: "g1", Payload: do("calls")}, nil)); got != "g1 2" {
		t.Errorf("after an event that is too large the instance counts %q", got)
	}
}

// TestShadowsWithholdNothing: a failing shadow withholds and reports no event.
func TestShadowsWithholdNothing(t *testing.T) {
	shadow := actor(t)
	shadow.Name, shadow.Shadow = "beside", true
	p := pipeline(t, Options{}, shadow)
	p.OnWithheld(func(group string, _ Position) { t.Errorf("reported %s", group) })
	ev := string(do("trap"))
	got := show(p.Process(Event{Group: "g1", Payload: []byte(ev)}, nil))
	testkit.Eventually(t, "the shadow has failed", func() bool { return p.Health()[0].Differ == 1 })
	if got != "g1 "+ev || len(p.Health()[0].Unprocessed) > 0 {
		t.Errorf("%q, %v", got, p.Health()[0].Unprocessed)
	}
}

// TestWithheldViews: the view of a class is withheld like an event, and the views of other classes are not.
func TestWithheldViews(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	var told []string
	p.OnWithheld(func(group string, _ Position) { told = append(told, group) })
	if got, ok, _ := p.renderNow(9, Event{Group: "g1", Payload: []byte("{}")}); ok {
		t.Errorf("class 9 is shown %q", got)
	}
	if got, ok, _ := p.renderNow(8, Event{Group: "g1", Payload: []byte("{}")}); ok { // the plugin's own decision
		t.Errorf("class 8 is shown %q", got)
	}
	if !slices.Equal(told, []string{"g1"}) {
		t.Errorf("reported %q", told)
	}
}

// TestFuelGrowsWithTheEvent: the budget grows with the event unless the setting is negative.
func TestFuelGrowsWithTheEvent(t *testing.T) {
	for _, c := range []struct {
		perByte, want int64 // want: the budget of an event and group of 1,002 bytes
	}{{0, 1000 + DefaultFuelPerByte*1002}, {5, 1000 + 5*1002}, {-1, 1000}} {
		spec := Spec{
			Name: "loop", Wasm: fixture(t, "hostile/loop"), Groups: []string{"*"}, Instances: 1, Fuel: 1000,
			FuelPerByte: c.perByte,
		}
		p := pipeline(t, Options{}, spec)
		p.Process(Event{Group: "g1", Payload: make([]byte, 1000)}, nil)
		h := p.Health()[0]
		if want := fmt.Sprintf("out of fuel after %d units", c.want); !strings.Contains(h.LastError, want) ||
			int64(h.Fuel) < c.want {
			t.Errorf("fuel per byte %d: %s, %d units; want %s", c.perByte, h.LastError, h.Fuel, want)
		}
	}
}

// TestResultGrowsWithTheEvent: a large event may have a result above 1 MiB, unless the limit is set.
func TestResultGrowsWithTheEvent(t *testing.T) {
	var s Spec
	s.resultGrows, s.MaxResult = true, defaultMaxResult
	if s.resultLimit(10) != defaultMaxResult || s.resultLimit(1<<20) != 8<<20 {
		t.Errorf("%d, %d", s.resultLimit(10), s.resultLimit(1<<20))
	}
	s.resultGrows, s.MaxResult = false, 100
	if s.resultLimit(1<<20) != 100 {
		t.Errorf("%d", s.resultLimit(1<<20))
	}
}
