package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// clients replaces the hub and keeps the forwarded events.
type clients struct {
	mu     sync.Mutex
	events []relay.Event
	missed []string
	gate   chan struct{} // if not nil, forward receives from it first
}

func (c *clients) forward(events []relay.Event) {
	if c.gate != nil && len(events) > 0 {
		<-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, events...)
}

// Lost implements relay.LossSink.
func (c *clients) Lost(l relay.Loss) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range l.Events {
		c.missed = append(c.missed, l.Groups[0]+": "+l.Cause.String())
	}
}

// misses returns the events that were reported missing.
func (c *clients) misses() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.missed)
}

// texts returns the texts of a group's events.
func (c *clients) texts(group string) (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range c.events {
		if ev.Group == group {
			list = append(list, string(ev.Text))
		}
	}
	return list
}

func guest(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func actor(t testing.TB, groups ...string) plugins.Spec {
	return plugins.Spec{Name: "actor", Wasm: guest(t, "actor"), Groups: groups, Grants: plugins.Grants}
}

func start(t testing.TB, c *clients, specs ...plugins.Spec) *Lanes {
	t.Helper()
	p, err := plugins.New(plugins.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f := New(p, c.forward, Options{Exempt: []string{exempt}, Losses: c})
	t.Cleanup(func() {
		f.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.Apply(context.Background(), specs); err != nil {
		t.Fatal(err)
	}
	return f
}

// exempt is a group that no plugin sees.
const exempt = "broadcast-exempt"

func event(group, text string) relay.Event { return relay.Event{Group: group, Text: []byte(text)} }

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
			Source: relay.FromPeer, Sent: sent, NeedsRelay: true,
		},
	})
	testkit.Eventually(t, "the event", func() bool { return len(c.texts("s")) == 1 })
	ev := c.events[0]
	if ev.Source != relay.FromPeer || ev.Sent != sent || !ev.NeedsRelay {
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
		class, err := f.Classify(ctx, c.id, c.group)
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
	testkit.Eventually(t, "the lanes have settled", func() bool { return f.unsettled.Load() == 0 })
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
		var bound []string
		for g := range groups {
			if (changes+g)%3 != 0 {
				bound = append(bound, fmt.Sprint("g-", g))
			}
		}
		if err := f.Apply(context.Background(), []plugins.Spec{actor(t, bound...)}); err != nil {
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
	testkit.Eventually(t, "the last event", func() bool { return len(c.texts("g")) == 1 })
	if got := c.misses(); !slices.Equal(got, []string{
		"g: plugin_withheld", "g: plugin_withheld",
		"s: plugin_withheld",
	}) {
		t.Errorf("reported %q", got)
	}
	if s := f.Stats(); s.Withheld != 3 || s.Dropped != 1 || len(c.texts("s")) > 0 {
		t.Errorf("%d withheld, %d dropped, %q came to s", s.Withheld, s.Dropped, c.texts("s"))
	}
}

// TestFullLaneBlocks: a full lane makes Intercept block instead of growing. While the fan-out is slow, which is not the
// plugins' fault, nothing is dropped however long it takes.
func TestFullLaneBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clients{gate: make(chan struct{})}
		f := start(t, c, actor(t, "g"))
		text := []byte(`{"pad":"` + strings.Repeat("x", 1<<20-64) + `"}`) // the largest event that the actor takes
		var taken atomic.Int32
		go func() {
			for range 40 {
				f.Intercept([]relay.Event{{Group: "g", Text: text}})
				taken.Add(1)
			}
		}()
		synctest.Wait()
		if n, most := taken.Load(), int32(3*laneCapacity>>20); n == 0 || n > most {
			t.Errorf("%d MiB are taken while the fan-out blocks, want 1 to %d", n, most)
		}
		time.Sleep(3 * roomTimeout)
		close(c.gate)
		synctest.Wait()
		if n, dropped := len(c.texts("g")), f.Stats().DroppedSlow; n != 40 || dropped != 0 {
			t.Errorf("%d events arrive and %d are dropped, want 40 and none", n, dropped)
		}
	})
}

// TestSlowPluginsAreBounded: plugins that are too slow cost events of their own groups, and hold up all others for
// roomTimeout at most.
func TestSlowPluginsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clients{}
		f := start(t, c, actor(t, "g"))
		l := f.lane("g")
		l.mu.Lock() // as if the queue were full and the worker busy
		l.bytes = laneCapacity
		l.queued["g"] = struct{}{}
		l.mu.Unlock()
		began := time.Now()
		for range 1000 {
			rest := f.Intercept([]relay.Event{event("g", "{}"), event("other", "{}")})
			if len(rest) != 1 || rest[0].Group != "other" {
				t.Fatalf("%v passes at once, want the event of the other group", rest)
			}
		}
		if took := time.Since(began); took != roomTimeout {
			t.Errorf("1000 events of another group were held up for %v, want %v", took, roomTimeout)
		}
		if n := f.Stats().DroppedSlow; n != 1000 {
			t.Errorf("%d events are dropped, want 1000", n)
		}
		l.mu.Lock() // the worker takes the queue
		l.add([]relay.Event{event("g", `{"n":0}`)})
		l.mu.Unlock()
		synctest.Wait()
		f.Intercept([]relay.Event{event("g", `{"n":1}`)})
		synctest.Wait()
		if got := c.texts("g"); len(got) != 2 {
			t.Errorf("after the worker took the queue, %q arrives, want both events", got)
		}
	})
}

// TestSettlementTransitions covers every phase of a settlement with every event.
func TestSettlementTransitions(t *testing.T) {
	for _, c := range []struct {
		name   string
		before settlement
		event  settleEvent
		after  settlement
	}{
		{"settled, change begins", settlement{laneSettled, 0}, changeBegan, settlement{laneChanging, 1}},
		{"settled, empty", settlement{laneSettled, 0}, laneEmpty, settlement{laneSettled, 0}},
		{"changing, another begins", settlement{laneChanging, 1}, changeBegan, settlement{laneChanging, 2}},
		{"changing, one of two ends", settlement{laneChanging, 2}, changeEnded, settlement{laneChanging, 1}},
		{"changing, the last ends", settlement{laneChanging, 1}, changeEnded, settlement{laneSettling, 0}},
		{"changing, empty", settlement{laneChanging, 1}, laneEmpty, settlement{laneChanging, 1}},
		{"settling, empty", settlement{laneSettling, 0}, laneEmpty, settlement{laneSettled, 0}},
		{"settling, change begins", settlement{laneSettling, 0}, changeBegan, settlement{laneChanging, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if after := c.before.next(c.event); after != c.after {
				t.Errorf("%+v becomes %+v, want %+v", c.before, after, c.after)
			}
		})
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
