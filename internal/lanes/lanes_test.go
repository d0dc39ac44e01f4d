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
	delay  time.Duration // of forward
}

func (c *clients) forward(events []relay.Event) {
	if c.gate != nil && len(events) > 0 {
		<-c.gate
	}
	time.Sleep(c.delay)
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
	return startWith(t, c, slog.New(slog.DiscardHandler), specs...)
}

func startWith(t testing.TB, c *clients, log *slog.Logger, specs ...plugins.Spec) *Lanes {
	t.Helper()
	p, err := plugins.New(plugins.Options{Logger: log})
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

// TestFullLaneBlocks: a full lane makes Intercept block instead of growing. While the fan-out is slow, which is not the
// plugins' fault, nothing is dropped however long it takes.
func TestFullLaneBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clients{delay: time.Minute}
		spec := actor(t, "g")
		spec.QueueBytes, spec.QueueAge = 8<<20, time.Second
		f := start(t, c, spec)
		text := []byte(`{"pad":"` + strings.Repeat("x", 1<<20-64) + `"}`) // the largest event that the actor takes
		send := func() { f.Intercept([]relay.Event{{Group: "g", Text: text}}) }
		send()
		synctest.Wait() // the worker is in the fan-out
		taken := 1
		for range 39 {
			send()
			if taken++; taken > len(c.texts("g"))+10 {
				t.Fatalf("%d MiB are taken, of which %d have left", taken, len(c.texts("g")))
			}
		}
		time.Sleep(time.Hour)
		if n, dropped := len(c.texts("g")), f.Stats().DroppedSlow; n != 40 || dropped != 0 {
			t.Errorf("%d events arrive and %d are dropped, want 40 and none", n, dropped)
		}
	})
}

// blocking is a logger whose records with a text block until the gate is closed: a plugin that logs stays in its call.
type blocking struct {
	text string
	gate chan struct{}
}

func (b blocking) Enabled(context.Context, slog.Level) bool { return true }
func (b blocking) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b blocking) WithGroup(string) slog.Handler            { return b }

func (b blocking) Handle(_ context.Context, r slog.Record) error {
	if r.Message == b.text {
		<-b.gate
	}
	return nil
}

// startBlocking is start with plugins that block in the call of an event {"do":"log"} until release is called.
func startBlocking(t testing.TB, c *clients, specs ...plugins.Spec) (_ *Lanes, release func()) {
	t.Helper()
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	f := startWith(t, c, slog.New(blocking{"a line", gate}), specs...)
	t.Cleanup(release)
	return f, release
}

// named returns an actor with a name.
func named(t testing.TB, name string, groups ...string) plugins.Spec {
	spec := actor(t, groups...)
	spec.Name = name
	return spec
}

// TestSlowPluginDelaysItsOwnGroups: while a plugin does not return, the events of other plugins' groups pass, also
// those of groups that share a plugin with it. Intercept does not block, and the events in excess are dropped.
func TestSlowPluginDelaysItsOwnGroups(t *testing.T) {
	c := &clients{}
	slow := named(t, "slow", "slow-*")
	slow.QueueBytes = 64 << 10
	shared := plugins.Spec{Name: "shared", Wasm: guest(t, "pass"), Groups: []string{"*"}}
	f, release := startBlocking(t, c, shared, slow, named(t, "fast", "fast-*"))
	for i := range 8 { // whatever the shard
		f.Intercept([]relay.Event{event(fmt.Sprint("slow-", i), `{"do":"log"}`)})
	}
	testkit.Eventually(t, "slow is in a call wherever it has events", func() bool {
		return f.Queues()["slow"].Queued == 8
	})
	for n := range 1000 {
		for i := range 8 {
			f.Intercept([]relay.Event{
				event(fmt.Sprint("slow-", i), `{"n":1}`), event(fmt.Sprint("fast-", i), fmt.Sprint(n)),
				event(fmt.Sprint("other-", i), fmt.Sprint(n)),
			})
		}
	}
	for i := range 8 {
		for _, group := range []string{fmt.Sprint("fast-", i), fmt.Sprint("other-", i)} {
			testkit.Eventually(t, "all events of "+group, func() bool { return len(c.texts(group)) == 1000 })
			for n, text := range c.texts(group) {
				if text != fmt.Sprint(n) {
					t.Fatalf("event %d of %s is %s", n, group, text)
				}
			}
		}
	}
	queues := f.Queues()
	q := queues["slow"]
	if len(queues) != 1 || q.DroppedSlow == 0 || q.Queued == 0 || q.QueuedBytes < 64<<10 || q.OldestSeconds <= 0 ||
		q.DroppedSlow != f.Stats().DroppedSlow || q.Queued+int(q.DroppedSlow) != 8*1001 {
		t.Errorf("queues %+v, %+v", queues, f.Stats())
	}
	if n := len(c.misses()); n != int(q.DroppedSlow) {
		t.Errorf("%d losses are reported, want %d", n, q.DroppedSlow)
	}
	release()
	testkit.Eventually(t, "the lanes are empty", func() bool { return f.Stats().Queued == 0 })
	for i := range 8 {
		if got := len(c.texts(fmt.Sprint("slow-", i))); got == 0 {
			t.Errorf("no event of slow-%d arrives", i)
		}
	}
}

// TestFivePluginsSideBySide: of five plugins under load, from one that passes events at once to one that does not return,
// each works off its own events while the slower ones are still busy.
func TestFivePluginsSideBySide(t *testing.T) {
	c := &clients{}
	plugin := func(name string, fuel int64, timeout time.Duration) plugins.Spec {
		spec := named(t, name, name+"-*")
		spec.OnError, spec.MaxFailures = plugins.OnErrorPass, 1<<20 // failed calls cost their time each time
		spec.Fuel, spec.FuelPerByte, spec.Timeout = fuel, -1, timeout
		return spec
	}
	const forever = 1 << 40
	f, release := startBlocking(t, c,
		plugin("blocked", forever, time.Hour),
		plugin("slowest", forever, 200*time.Millisecond),
		plugin("slower", forever, 20*time.Millisecond),
		plugin("slow", 10_000, time.Hour),
		plugin("fast", forever, time.Hour),
	)
	const groups, count = 4, 5
	want := make([]string, count)
	for n := range count {
		for g := range groups {
			send := func(plugin, do string) {
				f.Intercept([]relay.Event{event(fmt.Sprint(plugin, "-", g), fmt.Sprintf(`{"do":%q,"n":%d}`, do, n))})
			}
			send("blocked", "log")
			send("slowest", "loop")
			send("slower", "loop")
			send("slow", "loop")
			send("fast", "pass")
		}
		want[n] = fmt.Sprintf(`{"do":"pass","n":%d}`, n)
	}
	waiting := func(plugin string) int { return f.Queues()[plugin].Queued }
	for _, plugin := range []string{"fast", "slow", "slower", "slowest"} {
		testkit.Eventually(t, plugin+" works off its events", func() bool { return waiting(plugin) == 0 })
		for g := range groups {
			if got := c.texts(fmt.Sprint(plugin, "-", g)); len(got) != count {
				t.Errorf("%d events of %s-%d arrive, want %d", len(got), plugin, g, count)
			} else if plugin == "fast" && !slices.Equal(got, want) {
				t.Errorf("%s-%d gets %q", plugin, g, got)
			}
		}
		if plugin == "fast" && waiting("slowest") == 0 {
			t.Error("the slowest plugin is not slower than the fast one")
		}
	}
	if got := waiting("blocked"); got != groups*count {
		t.Errorf("%d events wait for the plugin that does not return, want %d", got, groups*count)
	}
	release()
	testkit.Eventually(t, "all events", func() bool { return f.Stats().Queued == 0 })
	if n := f.Stats().DroppedSlow; n != 0 {
		t.Errorf("%d events are dropped", n)
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

// TestOldEventsAreDropped: an event whose turn comes after queue_age is dropped, so that later events are in time. Time
// that the fan-out takes does not count.
func TestOldEventsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clients{}
		spec := named(t, "slow", "g")
		spec.QueueAge = time.Second
		f, release := startBlocking(t, c, spec)
		f.Intercept([]relay.Event{event("g", `{"do":"log"}`)})
		synctest.Wait()
		for n := range 10 {
			f.Intercept([]relay.Event{event("g", fmt.Sprint(n))})
			time.Sleep(250 * time.Millisecond)
		}
		if q := f.Queues()["slow"]; q.Queued != 11 || q.OldestSeconds != 2.5 {
			t.Errorf("%+v", q)
		}
		release()
		synctest.Wait()
		if got := c.texts("g"); !slices.Equal(got, []string{`{"do":"log"}`, "6", "7", "8", "9"}) {
			t.Errorf("got %q", got)
		}
		if q := f.Queues()["slow"]; q.DroppedSlow != 6 || len(c.misses()) != 6 {
			t.Errorf("%+v, reported %q", q, c.misses())
		}

		c.gate = make(chan struct{})
		for n := range 10 {
			f.Intercept([]relay.Event{event("g", fmt.Sprint(n))})
			time.Sleep(250 * time.Millisecond)
		}
		close(c.gate)
		synctest.Wait()
		if got := c.texts("g"); len(got) != 15 {
			t.Errorf("got %q: the fan-out makes events expire", got)
		}
	})
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

// TestFanOutClock: the fan-out is to blame for a full lane while it is in progress, and if it took most of the recent
// time.
func TestFanOutClock(t *testing.T) {
	now := time.Now()
	c := newFanOutClock(now)
	pass := func(d time.Duration) { now = now.Add(d) }
	if c.toBlame(now) {
		t.Error("blamed at once")
	}
	pass(time.Second)
	queued := c.pluginTime(now)
	c.start(now)
	if !c.toBlame(now) {
		t.Error("not blamed while in progress")
	}
	pass(3 * time.Second)
	if age := c.age(now, queued); age != 0 {
		t.Errorf("during the fan-out an event's age grew by %v", age)
	}
	c.stop(now)
	pass(time.Second)
	if !c.toBlame(now) || c.age(now, queued) != time.Second {
		t.Errorf("blamed: %t; age %v", c.toBlame(now), c.age(now, queued))
	}
	for range 3 { // calls take ten times as long as the fan-out
		pass(time.Second)
		c.start(now)
		pass(100 * time.Millisecond)
		c.stop(now)
	}
	if c.toBlame(now) {
		t.Error("blamed for calls of plugins")
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

// TestSlowViewsBlockNobody: views for classes are rendered within the fan-out. A plugin that is slow there is to blame
// for its full queue, as one that is slow with events: Intercept drops the excess and does not block.
func TestSlowViewsBlockNobody(t *testing.T) {
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "internal", "hostile", "testdata", "class_spin.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := plugins.New(plugins.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c := &clients{}
	f := New(p, func(events []relay.Event) { // as the hub does
		for _, ev := range events {
			if r := ev.Redaction; r != nil && r.Render != nil {
				_, _ = r.Render(0)
			}
		}
		c.forward(events)
	}, Options{Losses: c})
	t.Cleanup(func() {
		if err := p.Close(); err != nil { // ends the calls
			t.Error(err)
		}
		f.Close()
	})
	spec := plugins.Spec{
		Name: "slow", Wasm: wasm, Groups: []string{"slow"}, Timeout: time.Hour, QueueBytes: 64 << 10,
		QueueAge: time.Hour,
	}
	if err := f.Apply(context.Background(), []plugins.Spec{spec}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			f.Intercept([]relay.Event{event("slow", "{}")})
		}
	}()
	select {
	case <-done:
	case <-time.After(testkit.Scale(10 * time.Second)):
		t.Fatal("Intercept waits for a plugin")
	}
	if q := f.Queues()["slow"]; q.DroppedSlow == 0 || q.DroppedSlow+uint64(q.Queued) != 1000 || q.OldestSeconds <= 0 {
		t.Errorf("the queue is %+v", q)
	}
}
