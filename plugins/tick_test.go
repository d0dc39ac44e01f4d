package plugins

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ticker returns the Spec of a plugin that emits the last event of each group again at the next tick.
func ticker(t testing.TB, config string) Spec {
	return Spec{
		Name: "ticker", Wasm: fixture(t, "ticker"), Groups: []string{"g*"}, Grants: Grants, Instances: 1,
		Config: json.RawMessage(config),
	}
}

// tickSink is a handler of ticks that keeps what it gets.
type tickSink struct {
	p *Pipeline

	mu        sync.Mutex
	resumed   []string
	delivered []Output
}

func (s *tickSink) Resume(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumed = append(s.resumed, group)
}

func (s *tickSink) Deliver(outputs []Output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delivered = append(s.delivered, outputs...)
}

// got returns the resumed groups and the delivered outputs, and forgets them.
func (s *tickSink) got() (resumed, delivered string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resumed, delivered = strings.Join(s.resumed, " "), show(s.delivered)
	s.resumed, s.delivered = nil, nil
	return resumed, delivered
}

// tickingPipeline makes a pipeline within a bubble of synctest, which ends before the test does.
func tickingPipeline(t *testing.T, specs ...Spec) (*Pipeline, *tickSink, func()) {
	t.Helper()
	p, err := New(Options{Logger: quiet, startWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	s := &tickSink{p: p}
	p.HandleTicks(s)
	if err := p.Apply(t.Context(), specs); err != nil {
		t.Fatal(err)
	}
	return p, s, func() { _ = p.Close() }
}

// TestTicks: every instance is ticked at the interval, and the events that it emits to groups of the plugin wait for
// the turn of the group.
func TestTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := ticker(t, `{"drop": true}`)
		spec.Instances, spec.Tick = 2, 100*time.Millisecond
		second := actor(t)
		second.Name = "second"
		p, sink, stop := tickingPipeline(t, spec, second)
		defer stop()
		for n := range 5 {
			for _, group := range []string{"g1", "g2", "g3"} {
				if out := p.Process(Event{Group: group, Payload: fmt.Appendf(nil, `{"n":%d}`, n)}, nil); len(out) > 0 {
					t.Errorf("the plugin passes %q", show(out))
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		resumed, delivered := sink.got()
		groups := strings.Fields(resumed)
		slices.Sort(groups)
		if !slices.Equal(groups, []string{"g1", "g2", "g3"}) || delivered != "" {
			t.Errorf("groups %q have events, and %q is delivered; want each group", groups, delivered)
		}
		for _, group := range groups {
			if got, want := show(p.Resume(group, nil)), group+` {"n":4}`; got != want {
				t.Errorf("%q is resumed, want %q", got, want)
			}
			if got := show(p.Resume(group, nil)); got != "" {
				t.Errorf("%q is resumed twice", got)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if h := p.Health()[0]; h.Ticks != 2*11 || h.TicksSkipped != 0 || h.Tick != "100ms" ||
			h.CallSeconds["on_tick"].Count != h.Ticks {
			t.Errorf("%d ticks at %s, %d skipped, want 22 of two instances in 1.1 s", h.Ticks, h.Tick, h.TicksSkipped)
		}
	})
}

// TestTickPrecedesEvents: an event that follows a tick comes after what the tick has emitted, and both continue behind
// the plugin.
func TestTickPrecedesEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := actor(t), actor(t)
		first.Name, second.Name = "first", "second"
		p, _, stop := tickingPipeline(t, first, ticker(t, `{}`), second)
		defer stop()
		before := do("calls")
		if got := show(p.Process(Event{Group: "g1", Payload: do("replace", "with", string(before))}, nil)); got != "g1 1" {
			t.Fatalf("got %q, want the call of the second actor", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		// The first actor sees this event only, the second actor the tick's event before.
		got := p.Process(Event{Group: "g1", Payload: do("replace", "with", string(before)), Source: "peer"}, nil)
		if show(got) != "g1 2; g1 3" {
			t.Errorf("got %q, want the tick's event and then the event", show(got))
		}
		if got[0].Generation != p.Generation("g1") || !got[0].PerClass {
			t.Errorf("the tick's event is %+v, want the generation %x of the group and PerClass", got[0], p.Generation("g1"))
		}
	})
}

// TestTicksOfOtherGroups: an event for a group that the plugin is not bound to passes the plugins of that group.
func TestTicksOfOtherGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alerts := actor(t)
		alerts.Name, alerts.Groups = "alerts", []string{"alerts*"}
		p, sink, stop := tickingPipeline(t, ticker(t, `{"to": "alerts-1"}`), alerts)
		defer stop()
		p.Process(Event{Group: "g1", Payload: do("source")}, nil)
		p.Process(Event{Group: "g2", Payload: do("replace", "with", "2")}, nil)
		p.Process(Event{Group: "g3", Payload: do("route", "to", "other", "with", "3")}, nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if resumed, delivered := sink.got(); resumed != "g3" || delivered != "" {
			t.Errorf("%q is resumed, %q delivered; want the turn of the instance's last group", resumed, delivered)
		}
		if got := show(p.Resume("g3", nil)); got != "alerts-1 -1; alerts-1 2; other 3" {
			t.Errorf("got %q", got)
		}
		p.Process(Event{Group: "g1", Payload: do("replace", "with", "4")}, nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := show(p.Process(Event{Group: "g5", Payload: []byte("5")}, nil)); got != "alerts-1 4; g5 5" {
			t.Errorf("the next event of the instance gives %q, want the tick's event before", got)
		}
		sink.got()
		time.Sleep(time.Second) // event 5 waits for its turn
		synctest.Wait()
		states := ticker(t, `{"to": "alerts-1"}`)
		states.Groups = []string{"h*"}
		if err := p.Apply(t.Context(), []Spec{states, alerts}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if resumed, delivered := sink.got(); resumed != "g5" || delivered != "alerts-1 5" {
			t.Errorf("after the plugin has lost the group, %q is resumed, %q delivered", resumed, delivered)
		}
	})
}

// TestFailingTicks: failures of on_tick suspend ticks, and not events.
func TestFailingTicks(t *testing.T) {
	for what, kind := range map[string]Kind{
		"trap": KindTrap, "loop": KindFuel, "error": KindGuest, "reserved": KindResult,
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec := ticker(t, `{"tick": "`+what+`"}`)
				spec.Fuel, spec.Timeout = 10_000, time.Minute
				p, _, stop := tickingPipeline(t, spec)
				defer stop()
				time.Sleep(9500 * time.Millisecond)
				synctest.Wait()
				h := p.Health()[0]
				if h.Failures[kind] != 5 || h.CallsSkipped != 4 || h.Ticks != 0 || h.Breaker != "open" {
					t.Errorf("%v failures, %d skipped, %d ticks, breaker %s; want 5 of %s and then an open breaker",
						h.Failures, h.CallsSkipped, h.Ticks, h.Breaker, kind)
				}
				if got := show(p.Process(Event{Group: "g1", Payload: []byte("1")}, nil)); got != "g1 1" {
					t.Errorf("an event gives %q while ticks are suspended", got)
				}
			})
		})
	}
}

// TestTickHasNoEvent: in a tick, the metadata of events is unknown, and there is no group to emit to by default.
func TestTickHasNoEvent(t *testing.T) {
	tr, err := Try(t.Context(), Options{Logger: quiet}, ticker(t, `{"tick": "zero"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	tr.Event(Event{Group: "g1", Payload: []byte(`{"a": 1}`), Source: "peer", Sent: time.Now()})
	if got := tr.Run(&Sample{Hook: OnTick}); got.Err != nil || got.Verdict != Pass || len(got.Outputs) > 0 {
		t.Errorf("the tick gives %+v", got)
	}
}

// TestSampleOfTick: a sample of a tick compares the emitted events.
func TestSampleOfTick(t *testing.T) {
	spec := ticker(t, `{"drop": true}`)
	for line, want := range map[string]string{
		`{"hook":"on_tick","emits":[{"group":"g1","payload":{"n":2}}]}`: "",
		`{"hook":"on_tick","emits":[{"group":"g1","payload":{"n":1}}]}`: "n",
		`{"hook":"on_tick","emits":[]}`:                                 "emitted",
	} {
		var samples []Sample
		for _, l := range []string{
			`{"group":"g1","payload":{"n":1},"verdict":"drop"}`, `{"group":"g1","payload":{"n":2},"verdict":"drop"}`, line,
		} {
			s, err := ParseSample([]byte(l), "")
			if err != nil {
				t.Fatal(err)
			}
			samples = append(samples, s)
		}
		spec.Samples = samples
		err := pipeline(t, Options{}).Check(t.Context(), spec)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// TestTickNeedsItsGrant: a module with on_tick is rejected without the grant, and a tick without the grant as well.
func TestTickNeedsItsGrant(t *testing.T) {
	p := pipeline(t, Options{})
	for _, c := range []struct {
		name   string
		grants []Grant
		tick   time.Duration
		want   string
	}{
		{"no grant", []Grant{GrantEmit}, 0, "add 'grant tick 1s'"},
		{"an interval only", []Grant{GrantEmit}, time.Second, "add tick to the grants"},
		{"too short", Grants, time.Millisecond, "use 10ms to 1h0m0s"},
		{"too long", Grants, 2 * time.Hour, "use 10ms to 1h0m0s"},
		{"granted", Grants, 10 * time.Millisecond, ""},
	} {
		spec := ticker(t, `{}`)
		spec.Grants, spec.Tick = c.grants, c.tick
		err := p.Check(t.Context(), spec)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestTicksEnd: a module that is not live any more is not ticked, and a shadow's ticks have no effect.
func TestTicksEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec, shadow := ticker(t, `{}`), ticker(t, `{"drop": true}`)
		shadow.Name, shadow.Groups, shadow.ShadowOf = "shadow", nil, "ticker"
		p, sink, stop := tickingPipeline(t, spec, shadow)
		defer stop()
		p.Process(Event{Group: "g1", Payload: []byte("1")}, nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if resumed, delivered := sink.got(); resumed != "g1" || delivered != "" {
			t.Errorf("%q is resumed, %q delivered, want one event of the plugin", resumed, delivered)
		}
		if h := p.Health()[1]; h.Ticks != 1 || h.Emitted != 1 {
			t.Errorf("the shadow has %d ticks and emitted %d events, want 1 and 1", h.Ticks, h.Emitted)
		}
		for i := range 3 {
			spec.Config = json.RawMessage(fmt.Sprintf(`{"n": %d}`, i))
			if err := p.Apply(t.Context(), []Spec{spec}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if h := p.Health()[0]; h.Ticks != 1+10 || len(p.Health()) != 1 {
			t.Errorf("%d ticks, want those of the live modules", h.Ticks)
		}
		if got := show(p.Resume("g1", nil)); got != "g1 1" {
			t.Errorf("after the changes %q is resumed, want the event of the first module", got)
		}
		if err := p.Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // all goroutines have ended, or synctest.Test fails
	})
}

// TestTicksDoNotPileUp: while the events of earlier ticks wait, the plugin is not ticked.
func TestTicksDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := ticker(t, `{}`)
		spec.Tick = 10 * time.Millisecond
		p, _, stop := tickingPipeline(t, spec)
		defer stop()
		r := &p.plugins["ticker"].resuming
		for range maxResuming {
			r.add(tickEvent{emission: emission{group: "g9", payload: []byte("1")}, by: p.plugins["ticker"].live()})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if h := p.Health()[0]; h.Ticks != 0 || h.TicksSkipped != 100 {
			t.Errorf("%d ticks, %d skipped; want 100 skipped", h.Ticks, h.TicksSkipped)
		}
		p.Resume("g9", nil)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if h := p.Health()[0]; h.Ticks != 10 {
			t.Errorf("%d ticks after the events have continued, want 10", h.Ticks)
		}
	})
}
