package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

func TestShadow(t *testing.T) {
	ctx := context.Background()
	live := actor(t)
	beside := actor(t)
	beside.Name, beside.Shadow = "alone", true
	candidate := Spec{Name: "candidate", Wasm: fixture(t, "pass"), ShadowOf: "actor"}
	twin := actor(t)
	twin.Name, twin.ShadowOf = "twin", "actor"
	p := pipeline(t, Options{}, beside, live, candidate, twin)
	for event, want := range map[string]string{
		string(do("replace", "with", "{}")): "g1 {}",
		string(do("drop")):                  "",
		string(do("pass")):                  "g1 " + string(do("pass")),
		string(do("split")):                 `g1 {"part":1}; g1 {"part":2}; g1 {"part":3} to 110`,
	} {
		if got := show(p.Process(Event{Group: "g1", Payload: []byte(event)}, nil)); got != want {
			t.Errorf("%s gives %q, want %q: shadows have no effect", event, got, want)
		}
	}
	for i, want := range []struct{ same, differ uint64 }{{1, 3}, {0, 0}, {1, 3}, {4, 0}} {
		testkit.Eventually(t, "every shadow has decided", func() bool {
			h := p.Health()[i]
			return h.Same+h.Differ == want.same+want.differ
		})
		if h := p.Health()[i]; h.Same != want.same || h.Differ != want.differ {
			t.Errorf("%s: %d same, %d differ; want %v", h.Name, h.Same, h.Differ, want)
		}
	}
	if d, err := p.Subscribe(ctx, []byte(`{"do":"allow"}`), "g1"); !d.Allow || err != nil {
		t.Errorf("%+v %v", d, err)
	}
}

func TestSamples(t *testing.T) {
	ctx := context.Background()
	p := pipeline(t, Options{})
	try := func(s ...Sample) error {
		spec := actor(t)
		spec.Samples = s
		return p.Check(ctx, spec)
	}
	if err := try(
		Sample{Group: "g1", Payload: do("drop"), Verdict: "drop"},
		Sample{
			Group:   "g1",
			Payload: do("replace", "with", `{"a":1}`),
			Verdict: "replace",
			Output:  json.RawMessage(`{ "a": 1 }`),
		},
		Sample{Group: "g1", Payload: do("kv_incr")},
		Sample{Group: "g1", Payload: do("metric")},
		Sample{
			Group:   "g1",
			Payload: do("route", "to", "b", "with", "{}"),
			Emits:   []SampleEmission{{Group: "b", Payload: json.RawMessage(`{}`)}},
		},
	); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		s    Sample
		want string
	}{
		{Sample{Group: "g1", Payload: do("pass"), Verdict: "drop"}, "sample 1 (g1): verdict pass, want drop"},
		{
			Sample{Group: "g1", Payload: do("replace", "with", "{}"), Output: json.RawMessage(`[]`)},
			`output "{}", want "[]"`,
		},
		{
			Sample{Group: "g1", Payload: do("pass"), Emits: []SampleEmission{{Group: "b", Payload: json.RawMessage(`{}`)}}},
			"0 events emitted, want 1",
		},
		{
			Sample{
				Group: "g1", Payload: do("route", "to", "b", "with", "{}"),
				Emits: []SampleEmission{{Group: "c", Payload: json.RawMessage(`{}`)}},
			},
			`emitted "{}" to "b", want "{}" to "c"`,
		},
		{Sample{Group: "g1", Payload: do("trap")}, "sample 1 (g1): plugin actor: ev_on_event: wasm error: unreachable"},
	} {
		if err := try(c.s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	// Samples do not change the plugin's own state.
	spec := actor(t)
	spec.Samples = []Sample{{Group: "g1", Payload: do("kv_incr")}, {Group: "g1", Payload: do("metric")}}
	if err := p.Apply(ctx, []Spec{spec}); err != nil {
		t.Fatal(err)
	}
	if h := p.Health()[0]; h.KV != 0 || len(h.Metrics) != 0 || h.Calls != 0 {
		t.Errorf("samples left a trace: %+v", h)
	}
}

func TestTrial(t *testing.T) {
	tr, err := Try(context.Background(), Options{Logger: quiet, startWait: time.Minute}, actor(t))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	got := tr.Event(Event{Group: "g1", Payload: do("split")})
	if got.Verdict != Replace || show(got.Outputs) != ` {"part":1};  {"part":2};  {"part":3} to 110` || got.Fuel < 10 ||
		got.Duration <= 0 ||
		got.Memory < 1<<20 ||
		got.Err != nil {
		t.Errorf("%+v", got)
	}
	for range 20 { // a trial has no breaker
		if got := tr.Event(Event{Group: "g1", Payload: do("trap")}); got.Verdict != Failed || got.Err == nil ||
			errors.Is(got.Err, errBreakerOpen) {
			t.Errorf("%+v", got)
		}
	}
}

// TestShadowRunsBeside: a shadow that does not return delays no event. Events beyond its queue are skipped, and
// counted.
func TestShadowRunsBeside(t *testing.T) {
	gate := gateHandler{entered: make(chan struct{}, 1), gate: make(chan struct{})}
	release := sync.OnceFunc(func() { close(gate.gate) })
	shadow := actor(t)
	shadow.Name, shadow.ShadowOf = "beside", "live"
	live := Spec{Name: "live", Wasm: fixture(t, "pass"), Groups: []string{"g*"}}
	p := pipeline(t, Options{Logger: slog.New(gate)}, live, shadow)
	t.Cleanup(release)
	p.Process(Event{Group: "g1", Payload: do("log")}, nil)
	<-gate.entered
	large := do("pass", "pad", strings.Repeat("x", 3<<10))
	const count = 6000
	for range count {
		if out := p.Process(Event{Group: "g1", Payload: large}, nil); len(out) != 1 {
			t.Fatalf("%d outputs", len(out))
		}
	}
	h := p.Health()[1]
	if want := uint64(count - shadowQueueBytes/(len(large)+observationOverhead)); h.ShadowSkipped != want {
		t.Errorf("%d events are skipped, want %d", h.ShadowSkipped, want)
	}
	release()
	testkit.Eventually(t, "the shadow has decided about all other events", func() bool {
		h := p.Health()[1]
		return h.Same+h.Differ+h.ShadowSkipped == count+1
	})
}

// TestShadowDifferences: the last differing decisions are kept, with both decisions. A failed call differs.
func TestShadowDifferences(t *testing.T) {
	shadow := actor(t)
	shadow.Name, shadow.ShadowOf, shadow.MaxFailures = "beside", "live", 1000
	live := Spec{Name: "live", Wasm: fixture(t, "pass"), Groups: []string{"g*"}}
	p := pipeline(t, Options{}, live, shadow)
	const count = 30
	for i := range count {
		p.Process(Event{Group: "g1", Payload: do("replace", "with", fmt.Sprint(i))}, nil)
	}
	p.Process(Event{Group: "g1", Payload: do("audience")}, nil)
	p.Process(Event{Group: "g1", Payload: do("route", "to", "x", "with", strings.Repeat("é", 1000))}, nil)
	p.Process(Event{Group: "g1", Payload: do("trap", "pad", strings.Repeat("x", 5000))}, nil)
	testkit.Eventually(t, "the shadow has decided", func() bool { return p.Health()[1].Differ == count+3 })
	list, err := p.Differences("beside")
	if err != nil || len(list) != shadowDifferences {
		t.Fatalf("%d differences, %v; want %d", len(list), err, shadowDifferences)
	}
	for i, d := range list[:shadowDifferences-3] {
		want := fmt.Sprint(count - shadowDifferences + 3 + i)
		if d.Group != "g1" || d.Original.Verdict != "pass" || d.Shadow.Verdict != "replace" || d.Shadow.Output != want {
			t.Errorf("difference %d: %+v; want a replacement by %s", i, d, want)
		}
	}
	audience, route, trap := list[17], list[18], list[19]
	if !slices.Equal(audience.Shadow.Audience, []uint8{2}) || audience.Original.Audience != nil {
		t.Errorf("audience: %+v", audience)
	}
	if e := route.Shadow.Emits; len(e) != 1 || e[0].Group != "x" || e[0].PayloadBytes != 2000 ||
		len(e[0].Payload) > maxEmittedExcerpt+2 {
		t.Errorf("emission: %+v", route)
	}
	if trap.Shadow.Verdict != "failed" || !strings.Contains(trap.Shadow.Error, "unreachable") ||
		len(trap.Payload) != maxExcerpt || trap.PayloadBytes < 5000 || trap.At.IsZero() {
		t.Errorf("failure: %+v", trap)
	}
	if list, err := p.Differences("live"); len(list) != 0 || err != nil {
		t.Errorf("a plugin with effect: %v, %v", list, err)
	}
	if _, err := p.Differences("nobody"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an unknown plugin: %v", err)
	}
}
