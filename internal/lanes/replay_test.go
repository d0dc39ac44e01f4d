package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// at returns the position of an event that was sent as the n-th.
func at(n int) relay.Position {
	return relay.Position{Micros: 1_700_000_000_000_000 + int64(n), Mark: 7}
}

// page returns events of a group as a history returns them.
func page(group string, texts ...string) (events []relay.Event) {
	for i, text := range texts {
		ev := event(group, text)
		ev.Source, ev.Position = relay.FromHistory, at(i)
		events = append(events, ev)
	}
	return events
}

func TestPositionsAreTheSameForPlugins(t *testing.T) {
	for range 1000 {
		p := relay.Position{Micros: rand.Int64(), Mark: rand.Uint64(), Part: uint16(rand.Uint32() % 3)}
		if got := plugins.Position(p).String(); got != p.String() {
			t.Fatalf("%v is %q for plugins, and %q for clients", p, got, p)
		}
		parsed, err := plugins.ParsePosition(p.String())
		if relay.Position(parsed) != p || err != nil {
			t.Fatalf("a plugin passes %v as %v (%v)", p, parsed, err)
		}
	}
}

// TestPositionsOfOutputs: the events that plugins make of one event for its group share its position and are numbered;
// those for other groups have none.
func TestPositionsOfOutputs(t *testing.T) {
	c := &clients{}
	second := actor(t, "s")
	second.Name = "second"
	f := start(t, c, actor(t, "g"), second)
	events := page("g", `{"do":"split"}`, `{"do":"route","to":"s","with":"{}"}`, `{"do":"route","to":"elsewhere","with":"{}"}`,
		`{"do":"pass"}`, `{"do":"trap"}`, `{"do":"route","to":"s","with":"{\"do\":\"trap\"}"}`, `{"do":"pass"}`)
	for i := range events {
		events[i].Source = relay.FromLayer
	}
	f.Intercept(slices.Clone(events))
	testkit.Eventually(t, "all events", func() bool {
		return len(c.texts("g")) == 5 && len(c.texts("s")) == 1 && len(c.texts("elsewhere")) == 1 && len(c.misses()) == 2
	})
	part := func(n, p int) relay.Position {
		position := at(n)
		position.Part = uint16(p)
		return position
	}
	want := []relay.Position{part(0, 0), part(0, 1), part(0, 2), at(3), at(6)}
	c.mu.Lock()
	defer c.mu.Unlock()
	var got []relay.Position
	for _, ev := range c.events {
		if ev.Group == "g" {
			got = append(got, ev.Position)
		} else if !ev.Position.IsZero() {
			t.Errorf("an event for %s has the position %v", ev.Group, ev.Position)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("positions %v, want %v", got, want)
	}
	for _, l := range c.losses {
		if want := (map[string]relay.Position{"g": at(4)})[l.Groups[0]]; l.Cause != relay.LossPluginWithheld ||
			l.Position != want {
			t.Errorf("reported %+v, want the position %v", l, want)
		}
	}
}

// TestSlowEventsHavePositions: clients that know positions learn which events a slow plugin has cost them.
func TestSlowEventsHavePositions(t *testing.T) {
	c := &clients{}
	f := start(t, c)
	f.dropSlow("slow", page("g", "1", "2"))
	f.dropSlow("slow", []relay.Event{event("g", "3"), event("g", "4")})
	want := []relay.Loss{
		{Cause: relay.LossPluginSlow, Groups: []string{"g"}, Events: 1, Position: at(0)},
		{Cause: relay.LossPluginSlow, Groups: []string{"g"}, Events: 1, Position: at(1)},
		{Cause: relay.LossPluginSlow, Groups: []string{"g"}, Events: 2},
	}
	if fmt.Sprint(c.losses) != fmt.Sprint(want) || c.losses[1].Position != at(1) || !c.losses[2].Position.IsZero() {
		t.Errorf("reported %+v, want %+v", c.losses, want)
	}
}

func TestReplay(t *testing.T) {
	c := &clients{}
	other := actor(t, "s")
	other.Name = "other"
	f := start(t, c, actor(t, "g"), other)
	events := page("g", `{"do":"pass"}`, `{"do":"drop"}`, `{"do":"trap"}`, `{"do":"source"}`, `{"do":"split"}`,
		`{"do":"route","to":"s","with":"{}"}`, `{"do":"position"}`)
	out, withheld, err := f.Replay(t.Context(), events)
	var got []string
	for i := range out {
		got = append(got, fmt.Sprint(out[i].Position, " ", string(out[i].Text)))
		if out[i].Source != relay.FromHistory || out[i].Group != "g" {
			t.Errorf("%+v is not of the history of g", out[i])
		}
	}
	part := func(n, p int) string {
		position := at(n)
		position.Part = uint16(p)
		return position.String()
	}
	want := []string{
		part(0, 0) + ` {"do":"pass"}`, part(3, 0) + " history",
		part(4, 0) + ` {"part":1}`, part(4, 1) + ` {"part":2}`, part(4, 2) + ` {"part":3}`,
		part(6, 0) + " " + part(6, 0),
	}
	if !slices.Equal(got, want) || !slices.Equal(withheld, []relay.Position{at(2)}) || err != nil {
		t.Errorf("the replay has\n%s\nand %v (%v), want\n%s\nand %v", strings.Join(got, "\n"), withheld, err,
			strings.Join(want, "\n"), at(2))
	}
	if s := f.Stats(); s.Replays != 1 || s.Replayed != 7 || s.Dropped+s.Withheld != 0 || len(c.misses())+len(c.events) != 0 {
		t.Errorf("counted %+v, reported %q, and %d live events", s, c.misses(), len(c.events))
	}
	if r := out[0].Redaction; r == nil || r.Render == nil || r.Generation != f.Generation("g") {
		t.Fatalf("the redaction is %+v", r)
	} else if text, ok := r.Render(1); !ok || string(text) != `{"for":1}` || r.Failed(1) {
		t.Errorf("class 1 gets %q", text)
	} else if _, ok := r.Render(8); ok || r.Failed(8) {
		t.Error("class 8, which gets nothing, counts as failed")
	} else if _, ok := r.Render(9); ok || !r.Failed(9) || r.Failed(8) {
		t.Error("class 9, for which the plugin fails, does not count as failed")
	}

	for _, group := range []string{"free", exempt} {
		out, withheld, err = f.Replay(t.Context(), page(group, "1", "2"))
		if len(out) != 2 || string(out[1].Text) != "2" || out[1].Position != at(1) || len(withheld) != 0 || err != nil {
			t.Errorf("of a group without plugins: %v, %v, %v", out, withheld, err)
		}
	}
	if out, withheld, err := f.Replay(t.Context(), nil); len(out)+len(withheld) != 0 || err != nil {
		t.Errorf("of no events: %v, %v, %v", out, withheld, err)
	}
}

// TestReplayBesideASlowPlugin: a replay that has to wait for a plugin ends with its context, and without a part.
// Another chain's replay does not wait.
func TestReplayBesideASlowPlugin(t *testing.T) {
	c := &clients{}
	f, release := startBlocking(t, c, named(t, "slow", "s-*"), named(t, "fast", "f-*"))
	f.Intercept([]relay.Event{event("s-1", `{"do":"log"}`)})
	for _, queued := range []string{"the call of a live event", "an earlier replay"} {
		ctx, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("enough")
		time.AfterFunc(5*time.Millisecond, func() { cancel(cause) })
		out, withheld, err := f.Replay(ctx, page("s-1", `{"do":"pass"}`, `{"do":"log"}`))
		if len(out)+len(withheld) != 0 || !errors.Is(err, cause) {
			t.Errorf("behind %s: %v, %v, %v", queued, out, withheld, err)
		}
	}
	if out, _, err := f.Replay(t.Context(), page("f-1", `{"do":"pass"}`)); len(out) != 1 || err != nil {
		t.Errorf("beside another plugin: %v, %v", out, err)
	}
	release()
	testkit.Eventually(t, "the replay after the slow call", func() bool {
		out, _, err := f.Replay(t.Context(), page("s-1", `{"do":"pass"}`))
		return len(out) == 1 && err == nil
	})
	if s := f.Stats(); s.ReplaysFailed != 2 {
		t.Errorf("%d replays failed, want 2", s.ReplaysFailed)
	}
	testkit.Eventually(t, "the end of all turns", func() error { // an abandoned replay ends its turn by itself
		for _, s := range f.shards {
			s.mu.Lock()
			left := len(s.replays)
			s.mu.Unlock()
			if left > 0 {
				return fmt.Errorf("%d turns are left", left)
			}
		}
		return nil
	})
}

// TestLiveEventsDuringAReplay: live events are delivered while replays of their group are in progress.
func TestLiveEventsDuringAReplay(t *testing.T) {
	c := &clients{}
	f := start(t, c, actor(t, "g"))
	ctx, cancel := context.WithCancel(t.Context())
	events := page("g", slices.Repeat([]string{`{"do":"pass"}`}, 1000)...)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_, _, _ = f.Replay(ctx, events)
		}
	}()
	for n := range 100 {
		f.Intercept([]relay.Event{event("g", `{"do":"pass"}`)})
		testkit.Eventually(t, "the live event", func() bool { return len(c.texts("g")) == n+1 })
	}
	cancel()
	<-ended
}

// failures are the ways in which a replay can go wrong.
var failures = []struct{ name, text string }{
	{"trap", `{"do":"trap","secret":"hunter2"}`},
	{"fuel", `{"do":"loop","secret":"hunter2"}`},
	{"recursion", `{"do":"recurse","secret":"hunter2"}`},
	{"a result outside the memory", `{"do":"range","secret":"hunter2"}`},
	{"a result that is not text", `{"do":"text","secret":"hunter2"}`},
	{"emitted, then failed", `{"do":"emit_then_fail","secret":"hunter2"}`},
	{"no failure", `{"do":"replace","with":"{}","secret":"hunter2"}`},
}

// TestNoSecretInAReplay: whatever happens to the plugin that guards a group, no client sees what it covers.
func TestNoSecretInAReplay(t *testing.T) {
	var texts []string
	for _, f := range failures {
		texts = append(texts, f.text)
	}
	check := func(t *testing.T, out []relay.Event) {
		t.Helper()
		for i := range out {
			shown := []string{string(out[i].Text)}
			if r := out[i].Redaction; r != nil && r.Render != nil {
				shown = nil
				for class := range uint8(relay.MaxClass + 1) {
					if text, ok := r.Render(class); ok {
						shown = append(shown, string(text))
					}
				}
			}
			if strings.Contains(strings.Join(shown, " "), "hunter2") {
				t.Errorf("%v shows %q", out[i].Position, shown)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*plugins.Spec)
	}{
		{"usual limits", func(*plugins.Spec) {}},
		{"timeout", func(s *plugins.Spec) { s.Timeout, s.Fuel, s.FuelPerByte = time.Millisecond, 1<<40, -1 }},
		{"breaker", func(s *plugins.Spec) { s.MaxFailures = 1 }},
		{"last good", func(s *plugins.Spec) { s.OnError = plugins.OnErrorLastGood }},
		{"drop", func(s *plugins.Spec) { s.OnError = plugins.OnErrorDrop }},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := actor(t, "g")
			c.change(&spec)
			f := start(t, &clients{}, spec)
			out, withheld, err := f.Replay(t.Context(), page("g", texts...))
			check(t, out)
			if err != nil || spec.OnError == "" && len(out)+len(withheld) != len(texts) {
				t.Errorf("%d events and %d withheld of %d (%v)", len(out), len(withheld), len(texts), err)
			}
		})
	}
	t.Run("swaps", func(t *testing.T) { testSwaps(t, texts, check) })
}

// testSwaps replays events while the guard is replaced, and while the pipeline is closed.
func testSwaps(t *testing.T, texts []string, check func(*testing.T, []relay.Event)) {
	p, err := plugins.New(plugins.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f := New(p, (&clients{}).forward, Options{})
	spec := actor(t, "g")
	spec.MaxFailures = 1 << 20
	if err := f.Apply(t.Context(), []plugins.Spec{spec}); err != nil {
		t.Fatal(err)
	}
	events := page("g", slices.Repeat(texts, 20)...)
	ended := make(chan error)
	go func() {
		for {
			out, _, err := f.Replay(context.Background(), events)
			check(t, out)
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for n := range 5 {
		spec.Config = fmt.Append(nil, n)
		if err := f.Apply(t.Context(), []plugins.Spec{spec}); err != nil {
			t.Error(err)
		}
	}
	_ = p.Close()
	if err := <-ended; !errors.Is(err, plugins.ErrClosed) {
		t.Errorf("the replay ended with %v, want %v", err, plugins.ErrClosed)
	}
	f.Close()
	if out, _, err := f.Replay(context.Background(), events); len(out) > 0 || err == nil {
		t.Errorf("closed lanes replay %d events (%v)", len(out), err)
	}
}
