package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

func TestEventsWithoutPluginsPassAtOnce(t *testing.T) {
	c := &clients{}
	f := start(t, c, actor(t, "g-*", "broadcast*"))
	kept := f.Intercept([]relay.Event{
		event("g-1", `{"do":"drop"}`),
		event("other", `{"do":"drop"}`),
		event("g-2", `{"do":"pass"}`),
		{Group: "g-1", Control: &relay.Control{Type: "consumer.subscribe"}},
		event(exempt, `{"do":"drop"}`),
		event("other", `2`),
		event("g-2", `{"do":"replace","with":"2"}`),
	})
	var groups []string
	for _, ev := range kept {
		groups = append(groups, ev.Group)
	}
	if !slices.Equal(groups, []string{"other", "g-1", exempt, "other"}) {
		t.Errorf("passed at once: %q", groups)
	}
	testkit.Eventually(t, "the other events pass their plugin", func() bool { return len(c.texts("g-2")) == 2 })
	if got := c.texts("g-2"); !slices.Equal(got, []string{`{"do":"pass"}`, "2"}) {
		t.Errorf("got %q", got)
	}
	if got := c.texts("g-1"); got != nil {
		t.Errorf("got %q of a dropped event", got)
	}
}

func TestOutputsBecomeEvents(t *testing.T) {
	c := &clients{}
	f := start(t, c, actor(t, "g"), plugins.Spec{Name: "classes", Wasm: guest(t, "classes"), Groups: []string{"s"}})
	sent := time.Now()
	f.Intercept([]relay.Event{
		{
			Group: "g", Text: []byte(`{"do":"route","to":"s","with":"{\"secret\": 1}"}`),
			Source: relay.FromPeer, Sent: sent, NeedsRelay: true, Type: "chat.message", Sender: "node/1",
		},
	})
	testkit.Eventually(t, "the event", func() bool { return len(c.texts("s")) == 1 })
	ev := c.events[0]
	if ev.Source != relay.FromPeer || ev.Sent != sent || !ev.NeedsRelay || ev.Type != "chat.message" || ev.Sender != "node/1" {
		t.Errorf("got %+v", ev)
	}
	for class, want := range []string{`{"secret": "***"}`, `{"secret": 1}`} {
		if text, ok := ev.Redaction.Render(uint8(class)); !ok || string(text) != want {
			t.Errorf("class %d gets %q, %t", class, text, ok)
		}
	}
	f.Intercept([]relay.Event{event("s", `{"only": "1"}`)})
	testkit.Eventually(t, "the event", func() bool { return len(c.texts("s")) == 2 })
	if mask := c.events[1].Redaction.Classes; mask != 2 {
		t.Errorf("for classes %b", mask)
	}
}

func TestClassify(t *testing.T) {
	f := start(t, &clients{}, plugins.Spec{Name: "classes", Wasm: guest(t, "classes"), Groups: []string{"jobs-*"}},
		plugins.Spec{Name: "broken", Wasm: guest(t, "actor"), Groups: []string{"x"}, Grants: plugins.Grants})
	ctx := context.Background()
	for _, c := range []struct {
		id     relay.Identity
		group  string
		class  uint8
		denied string
	}{
		{relay.Identity{ID: "2", Profile: `{"username": "alice", "is_superuser": true}`}, "jobs-secret", 1, ""},
		{relay.Identity{ID: "2", Profile: `{"username": "alice", "is_superuser": true}`}, "elsewhere", 0, ""},
		{relay.Identity{ID: "3", Name: "bob"}, "jobs-summary", 0, ""},
		{relay.Identity{ID: "3", Name: "bob"}, "jobs-secret", 0, "access denied by plugin classes: bob is not to know"},
	} {
		got, err := f.Classify(ctx, c.id, c.group)
		class := got.Class
		if c.denied == "" && (err != nil || class != c.class) {
			t.Errorf("%s in %s: class %d, %v", c.id.Name, c.group, class, err)
		}
		if c.denied != "" && (!errors.Is(err, relay.ErrDenied) || err.Error() != c.denied) {
			t.Errorf("%s in %s: %v, want %s", c.id.Name, c.group, err, c.denied)
		}
	}
	// A failing plugin rejects the client, and the error is not ErrDenied.
	_, err := f.Classify(ctx, relay.Identity{ID: "1", Profile: `{"do": "trap"}`}, "x")
	if err == nil || errors.Is(err, relay.ErrDenied) {
		t.Errorf("a failing plugin: %v", err)
	}
}

// TestWithheld: an event that a plugin cannot process is not delivered, and the loss is reported for the event's
// group. The same holds for an event that a plugin sent to another group.
func TestWithheld(t *testing.T) {
	c := &clients{}
	second := actor(t, "s")
	second.Name = "second"
	f := start(t, c, actor(t, "g"), second)
	var events []relay.Event
	for _, text := range []string{
		`{"do":"trap"}`, `{"do":"loop"}`, `{"do":"drop"}`,
		`{"do":"route","to":"s","with":"{\"do\":\"trap\"}"}`, `{"do":"pass"}`,
	} {
		events = append(events, event("g", text))
	}
	f.Intercept(events)
	testkit.Eventually(t, "the last event", func() bool { return len(c.texts("g")) == 1 && len(c.misses()) == 3 })
	if got := slices.Sorted(slices.Values(c.misses())); !slices.Equal(got, []string{
		"g: plugin_withheld", "g: plugin_withheld",
		"s: plugin_withheld",
	}) {
		t.Errorf("reported %q", got)
	}
	if s := f.Stats(); s.Withheld != 3 || s.Dropped != 1 || len(c.texts("s")) > 0 {
		t.Errorf("%d withheld, %d dropped, %q came to s", s.Withheld, s.Dropped, c.texts("s"))
	}
}

// TestEmittedEventsAreHandedOver: a plugin that does not return delays neither the groups of a plugin that sends it
// events, nor other groups with that plugin. The events keep their order.
func TestEmittedEventsAreHandedOver(t *testing.T) {
	c := &clients{}
	f, release := startBlocking(t, c, named(t, "router", "r-*"), named(t, "slow", "s-*"))
	send := func(group, text string) { f.Intercept([]relay.Event{event(group, text)}) }
	route := func(to, text string) string { return fmt.Sprintf(`{"do":"route","to":%q,"with":%q}`, to, text) }
	send("r-1", route("s-1", `{"do":"log"}`))
	testkit.Eventually(t, "slow is in a call", func() bool { return f.Queues()["slow"].Queued == 1 })
	const count = 100
	for n := range count {
		send("r-1", route("s-1", fmt.Sprintf(`{"n":%d}`, n)))
		send("r-1", fmt.Sprint(n))
		send("r-1", route("free", fmt.Sprint(n)))
	}
	for _, group := range []string{"r-1", "free"} {
		testkit.Eventually(t, "the events of "+group, func() bool { return len(c.texts(group)) == count })
	}
	if got := f.Queues()["slow"]; got.Queued != count+1 {
		t.Errorf("%+v", got)
	}
	release()
	testkit.Eventually(t, "the emitted events", func() bool { return len(c.texts("s-1")) == count+1 })
	for n, text := range c.texts("s-1")[1:] {
		if text != fmt.Sprintf(`{"n":%d}`, n) {
			t.Fatalf("event %d is %s", n, text)
		}
	}
	// An event that is sent in a circle stops at the fourth hop, though each hop is another lane.
	text := "{}"
	for i := range 6 {
		text = route([]string{"r-9", "s-9"}[i%2], text)
	}
	send("r-9", text)
	testkit.Eventually(t, "the fourth hop", func() bool { return len(c.texts("s-9"))+len(c.texts("r-9")) == 1 })
	if got := slices.Concat(c.texts("s-9"), c.texts("r-9")); got[0] != "-3" {
		t.Errorf("the fifth hop gives %q, want -3 to the guest", got)
	}
}

// TestHandedOverEventsShareABudget: plugins that multiply events for each other produce a bounded number, though each
// of them has a lane.
func TestHandedOverEventsShareABudget(t *testing.T) {
	c := &clients{}
	var specs []plugins.Spec
	for _, name := range []string{"ga", "gb", "gc"} {
		specs = append(specs, plugins.Spec{
			Name: name, Wasm: guest(t, "fan"), Groups: []string{name}, Grants: plugins.Grants, Instances: 1,
			Timeout: time.Minute, // the number of events is the first limit, also on a busy machine
		})
	}
	f := start(t, c, specs...)
	f.Intercept([]relay.Event{event("ga", "{}")})
	// Some of the emitted events call a plugin, and the others leave: no plugin has gd. How many of each depends on the
	// lanes' turns.
	events := func() int {
		n := len(c.texts("gd"))
		for _, h := range f.pipeline.Health() {
			n += int(h.Calls)
		}
		return n
	}
	const most = 1 + 256 // the event, and the events that plugins may emit for it
	testkit.Eventually(t, "the budget is spent", func() bool { return events() >= most })
	testkit.Eventually(t, "the lanes are empty", func() bool { return f.Stats().Queued == 0 })
	if n := events(); n != most {
		t.Errorf("one event has caused %d events, want %d", n, most)
	}
}

func BenchmarkInterceptWithoutPlugin(b *testing.B) {
	f := start(b, &clients{}, actor(b, "g-*"))
	events := []relay.Event{event("other", "{}")}
	b.ReportAllocs()
	for b.Loop() {
		f.Intercept(events)
	}
}

// BenchmarkInterceptWithPlugin takes batches of 64 events of a group through a plugin that passes them: the path
// through the lane, compared with the plugin's call alone. ns/op is per event.
func BenchmarkInterceptWithPlugin(b *testing.B) {
	const batch = 64
	text := `{"text": "` + strings.Repeat("x", 280) + `"}`
	done := make(chan int, 1024)
	p, err := plugins.New(plugins.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	f := New(p, func(events []relay.Event) { done <- len(events) }, Options{})
	b.Cleanup(func() {
		f.Close()
		_ = p.Close()
	})
	filter := plugins.Spec{Name: "filter", Wasm: guest(b, "filter"), Groups: []string{"pass-*"}}
	if err := f.Apply(context.Background(), []plugins.Spec{filter}); err != nil {
		b.Fatal(err)
	}
	b.Run("filter", func(b *testing.B) {
		b.ReportAllocs()
		for range (b.N + batch - 1) / batch {
			events := make([]relay.Event, batch)
			for i := range events {
				events[i] = event("pass-1", text)
			}
			f.Intercept(events)
			for n := 0; n < batch; {
				n += <-done
			}
		}
	})
	b.Run("call", func(b *testing.B) {
		b.ReportAllocs()
		payload, outputs := []byte(text), []plugins.Output(nil)
		for b.Loop() {
			outputs = p.Process(plugins.Event{Group: "pass-1", Payload: payload}, outputs[:0])
		}
	})
}

// TestEventsForClasses: events of groups whose subscriptions are classified carry the generation of the classes, and a
// view is not rendered by a module that has not classified.
func TestEventsForClasses(t *testing.T) {
	c := &clients{}
	classes := plugins.Spec{Name: "classes", Wasm: guest(t, "classes"), Groups: []string{"s"}}
	changed := make(chan struct{}, 1)
	p, err := plugins.New(plugins.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f := New(p, c.forward, Options{Losses: c, Reclassify: func() { changed <- struct{}{} }})
	defer func() { f.Close(); _ = p.Close() }()
	if err := f.Apply(t.Context(), []plugins.Spec{classes}); err != nil {
		t.Fatal(err)
	}
	<-changed
	f.Intercept([]relay.Event{event("s", `{"secret": 1}`)})
	testkit.Eventually(t, "the event", func() bool { return len(c.texts("s")) == 1 })
	got, err := f.Classify(t.Context(), relay.Identity{ID: "1"}, "s")
	redaction := c.events[0].Redaction
	if err != nil || got.Generation != f.Generation("s") || redaction == nil || redaction.Generation != got.Generation {
		t.Errorf("classified as %v (%v), redaction %v, want generation %x", got, err, redaction, f.Generation("s"))
	}
	if text, ok := redaction.Render(1); !ok || string(text) != `{"secret": 1}` {
		t.Errorf("class 1 gets %q, %t", text, ok)
	}
	classes.Config = []byte("1")
	if err := f.Apply(t.Context(), []plugins.Spec{classes}); err != nil {
		t.Fatal(err)
	}
	<-changed
	if text, ok := redaction.Render(1); ok {
		t.Errorf("another module renders %q for class 1 of the module before", text)
	}
	if got := c.misses(); !slices.Equal(got, []string{"s: reclassified"}) {
		t.Errorf("reported %q", got)
	}
}
