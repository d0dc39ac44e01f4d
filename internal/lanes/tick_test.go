package lanes

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// ticker returns the Spec of a plugin that emits the last event of each group again at the next tick.
func ticker(t testing.TB, config string, groups ...string) plugins.Spec {
	return plugins.Spec{
		Name: "ticker", Wasm: guest(t, "ticker"), Groups: groups, Grants: plugins.Grants, Tick: 10 * time.Millisecond,
		Config: json.RawMessage(config),
	}
}

// TestTickDeliversTheLastEvent: a plugin that drops the events of a burst delivers the last one without another event.
func TestTickDeliversTheLastEvent(t *testing.T) {
	c := &clients{}
	second := actor(t, "g*")
	second.Name = "second"
	f := start(t, c, ticker(t, `{"drop": true}`, "g*"), second)
	for n := range 10 {
		f.Intercept([]relay.Event{event("g-1", fmt.Sprintf(`{"do":"replace","with":"%d"}`, n)), event("g-2", `{"do":"source"}`)})
	}
	testkit.Eventually(t, "the events of the tick", func() bool { return c.texts("g-1") != nil && c.texts("g-2") != nil })
	if got := c.texts("g-1"); got[len(got)-1] != "9" || len(got) > 5 {
		t.Errorf("the clients got %q, want the last event", got)
	}
	if got := c.texts("g-2"); got[0] != "-1" {
		t.Errorf("the source of a tick's event is %q, want none", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range c.events {
		if ev.Control != nil || ev.Redaction == nil || ev.Redaction.Generation != f.Generation("g-1") {
			t.Errorf("the event is %+v, want the redaction of its group", ev)
		}
	}
}

// TestTickOrder: while events, ticks and changes of the module run side by side, a group's state never goes back: what
// a tick emits comes after all events that the plugin has processed before the tick, and before all later ones. The
// same holds for a group that the plugin is not bound to and emits to in events and in ticks.
func TestTickOrder(t *testing.T) {
	c := &clients{}
	specs := func(version int) []plugins.Spec {
		states := ticker(t, fmt.Sprintf(`{"version": %d}`, version), "a-*", "b-*")
		states.Instances = 3 // other shards than those of the lanes
		alerts := ticker(t, fmt.Sprintf(`{"to": "alerts", "both": true, "version": %d}`, version), "c-1")
		alerts.Name = "alerts"
		second := actor(t, "b-*", "alerts")
		second.Name = "second"
		router := actor(t, "d-*", "b-*")
		router.Name = "router"
		return []plugins.Spec{router, states, alerts, second}
	}
	f := start(t, c, specs(0)...)
	// The events of d-1 and d-2 go on to groups of other and of the same plugins.
	routed := map[string]string{"d-1": "a-4", "d-2": "b-4"}
	groups := []string{"a-1", "a-2", "a-3", "b-1", "b-2", "b-3", "c-1", "d-1", "d-2"}
	const count = 3000
	var senders sync.WaitGroup
	for _, group := range groups {
		senders.Go(func() {
			for n := range count {
				text := fmt.Sprintf(`{"n":%d}`, n)
				if to := routed[group]; to != "" {
					text = fmt.Sprintf(`{"do":"route","to":%q,"with":%q}`, to, text)
				}
				c.forward(f.Intercept([]relay.Event{event(group, text)}))
				if n%30 == 0 {
					time.Sleep(2 * time.Millisecond)
				}
			}
		})
	}
	for version := range 5 {
		time.Sleep(20 * time.Millisecond)
		if err := f.Apply(t.Context(), specs(version+1)); err != nil {
			t.Error(err)
		}
	}
	senders.Wait()
	repeated := 0
	for _, group := range append(slices.Clone(groups), "alerts") {
		group = cmp.Or(routed[group], group)
		last := func() []string { return c.texts(group) }
		testkit.Eventually(t, "the last event of "+group, func() bool {
			return slices.Contains(last(), fmt.Sprintf(`{"n":%d}`, count-1))
		})
		before := -1
		for i, text := range c.texts(group) {
			var state struct{ N int }
			if err := json.Unmarshal([]byte(text), &state); err != nil {
				t.Fatalf("%s: event %d is %q", group, i, text)
			}
			if state.N < before {
				t.Fatalf("%s: state %d follows %d", group, state.N, before)
			}
			if state.N == before {
				repeated++
			}
			before = state.N
		}
	}
	if repeated < 50 {
		t.Errorf("%d events of ticks have come, which is not enough for a test", repeated)
	}
}
