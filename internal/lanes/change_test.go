package lanes

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// TestOrderWhenPluginsGo: events of a group that loses its plugins do not overtake earlier events in the lane.
func TestOrderWhenPluginsGo(t *testing.T) {
	c := &clients{gate: make(chan struct{})}
	f := start(t, c, actor(t, "g", "h"))
	n := 0
	send := func(count int) {
		for range count {
			n++
			kept := f.Intercept([]relay.Event{event("g", fmt.Sprintf(`{"n":%d}`, n)), event("free", "1")})
			c.mu.Lock()
			c.events = append(c.events, kept...)
			c.mu.Unlock()
		}
	}
	send(100)
	if err := f.Apply(context.Background(), []plugins.Spec{actor(t, "h")}); err != nil {
		t.Fatal(err)
	}
	send(100) // the lane still holds the first 100
	if got := c.texts("g"); got != nil {
		t.Errorf("%q overtook the queued events", got)
	}
	if got := len(c.texts("free")); got != 200 {
		t.Errorf("%d events of a group without plugins passed at once, want 200", got)
	}
	close(c.gate)
	testkit.Eventually(t, "the lanes are empty", func() bool { return len(c.texts("g")) == 200 })
	testkit.Eventually(t, "the shards have settled", func() bool { return f.unsettled.Load() == 0 })
	send(1)
	for i, text := range c.texts("g") {
		if want := fmt.Sprintf(`{"n":%d}`, i+1); text != want {
			t.Fatalf("event %d is %s", i+1, text)
		}
	}
	if got := len(c.texts("g")); got != 201 {
		t.Errorf("%d events", got)
	}
}

// TestOrderUnderChange changes the bound groups under events from several goroutines: no event is lost, and each group
// keeps its order.
func TestOrderUnderChange(t *testing.T) {
	c := &clients{}
	f := start(t, c)
	const groups, count = 8, 2000
	var senders sync.WaitGroup
	for g := range groups {
		senders.Go(func() {
			for n := range count {
				ev := event(fmt.Sprint("g-", g), fmt.Sprintf(`{"n":%d}`, n))
				c.forward(f.Intercept([]relay.Event{ev}))
			}
		})
	}
	done := make(chan struct{})
	changes := 0
	go func() {
		defer close(done)
		senders.Wait()
	}()
	for alive := true; alive; changes++ {
		select {
		case <-done:
			alive = false
		default:
		}
		var bound, second []string
		for g := range groups {
			if (changes+g)%3 != 0 {
				bound = append(bound, fmt.Sprint("g-", g))
			}
			if (changes+g)%4 != 0 {
				second = append(second, fmt.Sprint("g-", g))
			}
		}
		specs := []plugins.Spec{actor(t, bound...), named(t, "second", second...)}
		if err := f.Apply(context.Background(), specs); err != nil {
			t.Fatal(err)
		}
	}
	for g := range groups {
		name := fmt.Sprint("g-", g)
		testkit.Eventually(t, "all events of "+name, func() bool { return len(c.texts(name)) >= count })
		for n, text := range c.texts(name) {
			if want := fmt.Sprintf(`{"n":%d}`, n); text != want {
				t.Fatalf("event %d of %s is %s (%d changes)", n, name, text, changes)
			}
		}
	}
}

// TestGroupsChangeLanes: a group whose plugins change while its events wait keeps its order, and its new plugins do not
// run in the lane of the old ones.
func TestGroupsChangeLanes(t *testing.T) {
	c := &clients{}
	f, release := startBlocking(t, c, named(t, "a", "g", "blocked"))
	apply := func(specs ...plugins.Spec) {
		if err := f.Apply(context.Background(), specs); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	send := func(count int) {
		for range count {
			n++
			c.forward(f.Intercept([]relay.Event{event("g", fmt.Sprintf(`{"n":%d}`, n))}))
		}
	}
	f.Intercept([]relay.Event{event("g", `{"do":"log"}`)})
	send(10)
	apply(named(t, "a", "g", "blocked"), named(t, "b", "g"))
	send(10)
	apply(named(t, "a", "blocked"))
	send(10)
	apply(named(t, "a", "blocked"), named(t, "b", "g"))
	send(10)
	release()
	testkit.Eventually(t, "all events", func() bool { return len(c.texts("g")) == 41 })
	for i, text := range c.texts("g")[1:] {
		if want := fmt.Sprintf(`{"n":%d}`, i+1); text != want {
			t.Fatalf("event %d is %s", i+1, text)
		}
	}
	testkit.Eventually(t, "the shards have settled", func() bool { return f.unsettled.Load() == 0 })
	for _, s := range f.shards {
		s.mu.Lock()
		if len(s.groups) != 0 || len(s.byChain) != 0 {
			t.Errorf("%d groups and %d lanes are left", len(s.groups), len(s.byChain))
		}
		s.mu.Unlock()
	}
	if len(f.loads.byKey) != 0 {
		t.Errorf("loads are left: %v", f.loads.byKey)
	}
}

// TestSettlementTransitions covers every phase of a settlement with every event.
func TestSettlementTransitions(t *testing.T) {
	for _, c := range []struct {
		name   string
		before settlement
		event  settleEvent
		groups int
		after  settlement
	}{
		{"settled, change begins", settlement{}, changeBegan, 3, settlement{shardChanging, 1, 0}},
		{"settled, group settles", settlement{}, groupSettled, 3, settlement{}},
		{"changing, another begins", settlement{shardChanging, 1, 0}, changeBegan, 3, settlement{shardChanging, 2, 0}},
		{"changing, one of two ends", settlement{shardChanging, 2, 0}, changeEnded, 3, settlement{shardChanging, 1, 0}},
		{"changing, the last ends", settlement{shardChanging, 1, 0}, changeEnded, 3, settlement{shardSettling, 0, 3}},
		{"changing, the last ends without groups", settlement{shardChanging, 1, 0}, changeEnded, 0, settlement{}},
		{"changing, group settles", settlement{shardChanging, 1, 0}, groupSettled, 3, settlement{shardChanging, 1, 0}},
		{"settling, one of two groups", settlement{shardSettling, 0, 2}, groupSettled, 5, settlement{shardSettling, 0, 1}},
		{"settling, the last group", settlement{shardSettling, 0, 1}, groupSettled, 5, settlement{}},
		{"settling, change begins", settlement{shardSettling, 0, 2}, changeBegan, 3, settlement{shardChanging, 1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if after := c.before.next(c.event, c.groups); after != c.after {
				t.Errorf("%+v becomes %+v, want %+v", c.before, after, c.after)
			}
		})
	}
}
