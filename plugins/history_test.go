package plugins

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

var missed = Position{Micros: 1_700_000_000_000_000, Mark: 5}

// replayNow takes an event through a replay.
func replayNow(t *testing.T, p *Pipeline, payload []byte) (out []Output, withheld bool) {
	t.Helper()
	out, withheld, err := p.Replay(Event{Group: "g1", Payload: payload, Source: "peer", Position: missed}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out, withheld
}

// TestReplay: an event of the history goes through the plugins of its group, and has no effect elsewhere.
func TestReplay(t *testing.T) {
	second, other, shadow := actor(t), actor(t), actor(t)
	second.Name, other.Name, other.Groups = "second", "other", []string{"s"}
	shadow.Name, shadow.Shadow = "shadow", true
	twin := Spec{Name: "twin", Wasm: fixture(t, "pass"), ShadowOf: "actor"}
	p := pipeline(t, Options{}, actor(t), second, other, shadow, twin)
	for _, c := range []struct{ name, event, want string }{
		{"pass", string(do("pass")), "g1 " + string(do("pass"))},
		{"drop", string(do("drop")), ""},
		{"source", string(do("source")), "g1 history"},
		{"position", string(do("position")), "g1 " + missed.String()},
		{"split", string(do("split")), `g1 {"part":1}; g1 {"part":2}; g1 {"part":3} to 110`},
		{"source of an emitted event", string(do("emit_at", "at", missed.String())), "g1 0"},
		{"another group", string(do("route", "to", "s", "with", "{}")), ""},
	} {
		out, withheld := replayNow(t, p, []byte(c.event))
		if c.name != "source of an emitted event" && show(out) != c.want || withheld {
			t.Errorf("%s: %q, withheld %t, want %q", c.name, show(out), withheld, c.want)
		}
		for _, o := range out {
			if o.Position != missed {
				t.Errorf("%s: an output has the position %v", c.name, o.Position)
			}
		}
	}
	for _, h := range p.Health() {
		want := uint64(7)
		if h.Name == "other" || h.Shadow {
			want = 0
		}
		if h.Name == "second" {
			want = 5
		}
		if h.Passed+h.Dropped+h.Replaced+h.Emitted != 0 || h.Same+h.Differ+h.ShadowSkipped != 0 ||
			h.Calls != h.Replayed || want == 0 && h.Replayed != 0 || want > 0 && h.Replayed < want {
			t.Errorf("%s: %+v", h.Name, h)
		}
	}
}

// TestReplayPolicies: for every way in which processing can fail, on_error decides about an event of the history, too.
// Only the replay learns of it.
func TestReplayPolicies(t *testing.T) {
	for _, way := range ways {
		for _, policy := range []OnError{OnErrorWithhold, OnErrorDrop, OnErrorPass, OnErrorLastGood} {
			t.Run(fmt.Sprintf("%s/%s", way.name, policy), func(t *testing.T) {
				spec := actor(t)
				spec.OnError = policy
				if way.change != nil {
					way.change(&spec)
				}
				p := pipeline(t, Options{}, spec)
				p.OnWithheld(func(group string, _ Position) { t.Errorf("reported as withheld in %s", group) })
				event := way.event
				if way.prepare != nil { // a breaker of the replays
					for range 5 {
						replayNow(t, p, do("trap"))
					}
				}
				out, withheld := replayNow(t, p, event)
				wantOut, wantWithheld := "", policy == OnErrorWithhold || policy == OnErrorLastGood
				if policy == OnErrorPass {
					wantOut = "g1 " + string(event)
				}
				if show(out) != wantOut || withheld != wantWithheld {
					t.Errorf("%d outputs, withheld %t, want %t", len(out), withheld, wantWithheld)
				}
				if h := p.Health()[0]; len(h.Unprocessed) != 0 || h.ReplayFailures == 0 {
					t.Errorf("counted %v as unprocessed, %d failures", h.Unprocessed, h.ReplayFailures)
				}
			})
		}
	}
}

// TestReplayBreakers: failures in replays suspend the calls for replays, and those of live events the calls for these.
func TestReplayBreakers(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	fail := func(live bool) {
		view, _ := replayNow(t, p, do("pass"))
		for range 6 {
			if live {
				p.Process(Event{Group: "g1", Payload: do("trap")}, nil)
				p.renderNow(9, Event{Group: "g1", Payload: []byte("{}")})
				continue
			}
			replayNow(t, p, do("trap"))
			_, _, err := p.Render(9, Event{Group: "g1", Payload: []byte("{}"), Source: SourceHistory}, &view[0])
			if !errors.Is(err, ErrWithheld) {
				t.Fatalf("rendered with %v", err)
			}
		}
	}
	fail(false)
	if got := show(p.Process(Event{Group: "g1", Payload: do("source"), Source: "layer"}, nil)); got != "g1 layer" {
		t.Errorf("a live event gives %q after failures in replays", got)
	}
	if text, ok, err := p.renderNow(9, Event{Group: "g1", Payload: []byte("{}")}); ok || err != nil {
		t.Errorf("a live view: %q, %v", text, err)
	}
	if _, withheld := replayNow(t, p, do("pass")); !withheld {
		t.Error("the breaker of replays is closed after failures in replays")
	}
	want := []OpenBreaker{{"on_class", "g1", true, false}, {"on_event", "g1", true, false}}
	if h := p.Health()[0]; !slices.Equal(h.OpenBreakers, want) {
		t.Errorf("open are %+v, want %+v", h.OpenBreakers, want)
	}

	p = pipeline(t, Options{}, actor(t))
	fail(true)
	if out, withheld := replayNow(t, p, do("pass")); withheld || len(out) != 1 {
		t.Error("failures of live events suspend the calls for replays")
	}
}

// TestReplayLeavesTicksAlone: events of ticks wait for live events, and keep the position that the plugin has stored.
func TestReplayLeavesTicksAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, sink, stop := tickingPipeline(t, ticker(t, `{"drop": true, "keep": true}`), Spec{
			Name: "other", Wasm: fixture(t, "ticker"), Groups: []string{"g*"}, Grants: Grants, Instances: 1,
			Config: []byte(`{"to": "elsewhere"}`),
		})
		defer stop()
		p.Process(Event{Group: "g1", Payload: []byte(`{"n":1}`), Position: missed}, nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if resumed, _ := sink.got(); resumed != "g1" {
			t.Fatalf("%q wait for their turn, want g1", resumed)
		}
		if out, _, err := p.Replay(Event{Group: "g1", Payload: []byte(`{"n":0}`), Position: missed}, nil); len(out) != 0 ||
			err != nil {
			t.Errorf("the replay takes %q from the live events (%v)", show(out), err)
		}
		out := p.Resume("g1", nil)
		if show(out) != `g1 {"n":1}` || out[0].Position != missed {
			t.Errorf("%q continues, want the event of the tick at its position", show(out))
		}
	})
}

// TestReplayOfAClosedPipeline fails closed: what a plugin would have covered does not pass.
func TestReplayOfAClosedPipeline(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	out, _ := replayNow(t, p, do("pass"))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if out, _, err := p.Replay(Event{Group: "g1", Payload: []byte("secret")}, nil); len(out) != 0 ||
		!errors.Is(err, ErrClosed) {
		t.Errorf("%q with %v, want %v", show(out), err, ErrClosed)
	}
	if text, ok, err := p.Render(1, Event{Group: "g1", Payload: []byte("secret"), Source: SourceHistory}, &out[0]); ok || err == nil {
		t.Errorf("%q is rendered (%v)", text, err)
	}
}

// TestReplaysGiveWay: live events are processed while a replay goes on, and the replay goes on while live events come.
func TestReplaysGiveWay(t *testing.T) {
	spec := actor(t)
	p := pipeline(t, Options{}, spec)
	var replayed, live atomic.Uint64
	const events = 200
	var both sync.WaitGroup
	end := make(chan struct{})
	run := func(count *atomic.Uint64, process func()) {
		both.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					process()
					count.Add(1)
				}
			}
		})
	}
	run(&replayed, func() { _, _, _ = p.Replay(Event{Group: "g1", Payload: do("pass")}, nil) })
	run(&live, func() { p.Process(Event{Group: "g1", Payload: do("pass")}, nil) })
	testkit.Eventually(t, "both go on", func() bool { return replayed.Load() >= events && live.Load() >= events })
	close(end)
	both.Wait()
}
