package lanes

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

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

// TestFivePluginsSideBySide: of five plugins under load, from one that passes events at once to one that does not
// return, each works off its own events while the slower ones are still busy.
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
