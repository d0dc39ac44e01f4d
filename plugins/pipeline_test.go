package plugins

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// show formats outputs for comparison: "group payload" in order, and the audience unless all classes are in it.
func show(out []Output) string {
	var lines []string
	for _, o := range out {
		line := o.Group + " " + string(o.Payload)
		if o.Audience != allClasses {
			line += fmt.Sprintf(" to %b", o.Audience)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func TestVerdicts(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_123)
	spec := actor(t)
	spec.Config = []byte(`{"words": ["a"]}`)
	p := pipeline(t, Options{Now: func() time.Time { return now }}, spec)
	pass := string(do("pass"))
	for _, c := range []struct {
		name, event, want string
	}{
		{"pass", pass, "g1 " + pass},
		{"not an object", "[]", "g1 []"},
		{"drop", string(do("drop")), ""},
		{"replace", string(do("replace", "with", `{"x":1}`)), `g1 {"x":1}`},
		{"an empty payload", string(do("empty")), "g1 "},
		{"the buffer itself: group", string(do("group")), "g1 g1"},
		{"the buffer itself: payload", string(do("payload")), "g1 " + string(do("payload"))},
		{"split", string(do("split")), `g1 {"part":1}; g1 {"part":2}; g1 {"part":3} to 110`},
		{"another group", string(do("route", "to", "alerts", "with", "{}")), "alerts {}"},
		{"its own group by name", string(do("route", "to", "g1", "with", "{}")), "g1 {}"},
		{"too many emitted", string(do("flood")), "g1 -1" + strings.Repeat("; g1 {}", maxEmits)},
		{"refused emits", string(do("bad_emit")), "g1 -44"},
		{"audience", string(do("audience")), "g1 " + string(do("audience")) + " to 100"},
		{"nobody", string(do("nobody")), ""},
		{"config", string(do("config")), `g1 {"words": ["a"]}`},
		{"config_get", string(do("config_get", "path", "words.0")), "g1 a"},
		{"config_get: missing", string(do("config_get", "path", "words.1")), "g1 -1"},
		{"json_get: a decoded string", string(do("get", "path", "do")), "g1 get"},
		{"json_get: escapes", string(do("get", "path", "x", "x", "a\"\né")), "g1 a\"\né"},
		{"json_get: missing", string(do("get", "path", "no.such")), "g1 -1"},
		{"json_get: not a string", `{"do":"get","path":"a.1.b","a":[0,{"b": {"c":null}}]}`, `g1 {"c":null}`},
		{"json_find", `{"do":"find","path":"a.0","a":[ "x" ]}`, `g1 "x"`},
		{"json_find: missing", `{"do":"find","path":"a.1","a":[ "x" ]}`, `g1 -1`},
		{"now", string(do("now")), "g1 1700000000123"},
		{"metric", string(do("metric")), "g1 -1"},
		{"too many metrics", string(do("metrics")), "g1 -2"},
		{"kv: missing", string(do("kv_get")), "g1 -1"},
		{"kv: set", string(do("kv_set", "with", "v1")), "g1 0"},
		{"kv: get", string(do("kv_get")), "g1 v1"},
		{"kv: delete", string(do("kv_set", "with", "")), "g1 0"},
		{"kv: deleted", string(do("kv_get")), "g1 -1"},
		{"kv: count", string(do("kv_incr")), "g1 1"},
		{"kv: count again", string(do("kv_incr")), "g1 2"},
	} {
		got := show(p.Process(Event{Group: "g1", Payload: []byte(c.event)}, nil))
		if got != c.want {
			t.Errorf("%s: %s gives\n\t%s, want\n\t%s", c.name, c.event, got, c.want)
		}
	}
	now = now.Add(time.Second)
	if got := show(p.Process(Event{Group: "g1", Payload: do("kv_incr")}, nil)); got != "g1 1" {
		t.Errorf("after the TTL the count gives %s, want 1", got)
	}
	if got := show(p.Process(Event{Group: "g1", Payload: do("kv_fill")}, nil)); !strings.HasPrefix(got, "g1 9") || len(got) != len("g1 999") {
		t.Errorf("a store of 1 MiB takes %s entries of about 1,070 bytes", got)
	}
	if h := p.Health()[0]; h.Metrics["seen_total"] != 2 || len(h.Metrics) != maxMetrics || h.KV > 1<<20 ||
		len(h.Failures) != 0 {
		t.Errorf("health: %+v", h)
	}
}

// TestChain: plugins run in order, each on the output of the previous plugin; emitted events continue with the next
// plugin.
func TestChain(t *testing.T) {
	a, b := actor(t), actor(t)
	b.Name, b.Groups = "second", []string{"g*", "alerts"}
	p := pipeline(t, Options{}, a, b)
	inner := string(do("replace", "with", "{}"))
	for _, c := range []struct{ event, want string }{
		{string(do("replace", "with", inner)), "g1 {}"},
		{string(do("replace", "with", string(do("drop")))), ""},
		// The first plugin does not see the event again.
		{string(do("route", "to", "g1", "with", inner)), "g1 {}"},
		// The other group has a chain of its own.
		{string(do("route", "to", "alerts", "with", inner)), "alerts {}"},
		// Two hops.
		{string(do("route", "to", "alerts", "with", string(do("route", "to", "x", "with", "{}")))), "x {}"},
	} {
		if got := show(p.Process(Event{Group: "g1", Payload: []byte(c.event)}, nil)); got != c.want {
			t.Errorf("%s gives %s, want %s", c.event, got, c.want)
		}
	}
}

// TestEventMetadata: a plugin sees by which way an event reached the node and when it was sent, in events that another
// plugin emitted as well.
func TestEventMetadata(t *testing.T) {
	second := actor(t)
	second.Name, second.Groups = "second", []string{"s"}
	p := pipeline(t, Options{}, actor(t), second)
	sent := time.UnixMilli(1_700_000_000_123)
	for _, c := range []struct {
		name, event, want string
		source            string
		sent              time.Time
	}{
		{"source", `{"do":"source"}`, "g1 peer", "peer", sent},
		{"time sent", `{"do":"sent"}`, "g1 1700000000123", "peer", sent},
		{"no source", `{"do":"source"}`, "g1 -1", "", sent},
		{"no time sent", `{"do":"sent"}`, "g1 -1", "peer", time.Time{}},
		{"source of an emitted event", `{"do":"route","to":"s","with":"{\"do\":\"source\"}"}`, "s peer", "peer", sent},
		{"time of an emitted event", `{"do":"route","to":"s","with":"{\"do\":\"sent\"}"}`, "s 1700000000123", "peer", sent},
	} {
		ev := Event{Group: "g1", Payload: []byte(c.event), Source: c.source, Sent: c.sent}
		if got := show(p.Process(ev, nil)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	view := Event{Group: "g1", Payload: []byte("{}"), Source: "layer"}
	if got, _, _ := p.renderNow(7, view); string(got) != "layer" {
		t.Errorf("on_class sees the source %q, want layer", got)
	}
}

// TestHops: an event that is sent in a circle stops at the fourth hop, and the guest gets an error code.
func TestHops(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	ev := "{}"
	for i := range 6 {
		ev = string(do("route", "to", fmt.Sprintf("g-%d", i), "with", ev))
	}
	if got := show(p.Process(Event{Group: "g1", Payload: []byte(ev)}, nil)); got != "g-2 -3" {
		t.Errorf("the fifth hop gives %q, want -3 to the guest in the group of the fourth", got)
	}
}

// TestAmplification: plugins that multiply events produce a bounded number for each event.
func TestAmplification(t *testing.T) {
	specs := make([]Spec, 4)
	for i := range specs {
		specs[i] = Spec{
			Name:      fmt.Sprint("p", i),
			Wasm:      fixture(t, "multiply"),
			Groups:    []string{"*"},
			Grants:    Grants,
			Instances: 1,
		}
	}
	p := pipeline(t, Options{}, specs...)
	told := uint64(0)
	p.OnWithheld(func(string, Position) { told++ })
	before := []Output{{Group: "earlier"}}
	out := p.Process(Event{Group: "g1", Payload: []byte("{}")}, before)
	if len(out) != 1+maxOutputs {
		t.Errorf("%d outputs, want %d after the one that was there", len(out)-1, maxOutputs)
	}
	n := uint64(0)
	for _, h := range p.Health() {
		n += h.Failures[KindOutputs]
	}
	if n == 0 || told != n {
		t.Errorf("%d outputs were dropped, and %d are reported", n, told)
	}
}

func TestGroupsWithoutPlugins(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	payload := do("drop")
	if got := show(p.Process(Event{Group: "other", Payload: payload}, nil)); got != "other "+string(payload) {
		t.Errorf("a group that no plugin matches gives %q", got)
	}
	if p.Matches("other") || !p.Matches("g2") {
		t.Error("Matches is wrong")
	}
	if h := p.Health()[0]; h.Calls != 0 {
		t.Errorf("the plugin was called %d times for a group it does not match", h.Calls)
	}
}

func TestPassDoesNotAllocate(t *testing.T) {
	p := pipeline(t, Options{}, Spec{Name: "pass", Wasm: fixture(t, "pass"), Groups: []string{"*"}})
	payload := []byte(`{"a":1}`)
	out := make([]Output, 0, 4)
	for _, group := range []string{"g", "h"} {
		p.Process(Event{Group: group, Payload: payload}, out)
		if n := testing.AllocsPerRun(1000, func() { out = p.Process(Event{Group: group, Payload: payload}, out[:0]) }); n != 0 {
			t.Errorf("%v allocations for an event that passes", n)
		}
	}
}

// TestGroupAffinity: all events of a group use the same instance, from any caller.
func TestGroupAffinity(t *testing.T) {
	spec := actor(t)
	spec.Instances = 4
	p := pipeline(t, Options{}, spec)
	used := map[string]int{}
	for i := 1; i <= 20; i++ {
		group := fmt.Sprint("g", i)
		first := show(p.Process(Event{Group: group, Payload: do("calls")}, nil))
		var a, b int
		fmt.Sscanf(first, group+" %d", &a)
		fmt.Sscanf(show(p.Process(Event{Group: group, Payload: do("calls")}, nil)), group+" %d", &b)
		if b != a+1 {
			t.Errorf("group %s: call %d follows call %d of its instance", group, b, a)
		}
		used[first[strings.Index(first, " "):]]++
	}
	if used[" 1"] < 2 {
		t.Errorf("twenty groups use %d instances of four", used[" 1"])
	}
}

func TestLargeEvents(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	for _, size := range []int{0, 1, 4095, 4096, 5000, 1 << 19, 1 << 20} {
		ev := []byte(`{"do":"payload","pad":"` + strings.Repeat("x", size) + `"}`)
		out := p.Process(Event{Group: "g1", Payload: ev}, nil)
		if size < 1<<20 && (len(out) != 1 || string(out[0].Payload) != string(ev)) {
			t.Errorf("an event of %d bytes does not come back", len(ev))
		}
	}
	h := p.Health()[0]
	if h.Failures[KindTooLarge] != 1 || !strings.Contains(h.LastError, "refuses an input buffer") {
		t.Errorf("an event larger than the guest accepts: %v, %s", h.Failures, h.LastError)
	}
}

func TestSubscribe(t *testing.T) {
	a, b := actor(t), actor(t)
	b.Name = "second"
	b.Groups = []string{"g-both"}
	p := pipeline(t, Options{}, a, b)
	ctx := context.Background()
	for _, c := range []struct {
		group, user string
		want        Decision
		err         string
	}{
		{"g1", `{"do":"allow"}`, Decision{Allow: true}, ""},
		{"g1", ``, Decision{Allow: true}, ""},
		{"other", `{"do":"deny"}`, Decision{Allow: true}, ""},
		{"g1", `{"do":"deny"}`, Decision{Plugin: "actor"}, ""},
		{"g1", `{"do":"reason"}`, Decision{Plugin: "actor", Reason: "not yours"}, ""},
		{"g1", `{"do":"group"}`, Decision{Plugin: "actor", Reason: "g1"}, ""},
		{"g-both", `{"do":"class"}`, Decision{Allow: true, Class: 5}, ""},
		{"g1", `{"do":"error"}`, Decision{Plugin: "actor", Reason: "the plugin failed"}, "reported an error"},
		{"g1", `{"do":"trap"}`, Decision{Plugin: "actor", Reason: "the plugin failed"}, "unreachable"},
		{
			"g1", `{"do":"reserved"}`,
			Decision{Plugin: "actor", Reason: "the plugin failed"},
			"does not define the result",
		},
		{"g1", `not JSON`, Decision{Plugin: "actor"}, "encode the user as JSON"},
	} {
		d, err := p.Subscribe(ctx, []byte(c.user), c.group)
		if c.want.Allow {
			c.want.Generation = p.Generation(c.group)
		}
		if d != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s to %s: %+v, %v; want %+v, %q", c.user, c.group, d, err, c.want, c.err)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if d, err := p.Subscribe(gone, nil, "g1"); d.Allow || err == nil {
		t.Errorf("a context that is done: %+v, %v", d, err)
	}
}

func TestRender(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	out := p.Process(Event{Group: "g1", Payload: []byte("{}")}, nil)
	if len(out) != 1 || !out[0].PerClass {
		t.Fatalf("the output does not ask for rendering: %+v", out)
	}
	// Class 8 is dropped; class 9 fails and is withheld.
	for class, want := range map[uint8]string{0: "{}", 5: `{"for":5}`, 63: `{"for":63}`, 8: "", 9: ""} {
		got, ok, _ := p.renderNow(class, Event{Group: "g1", Payload: out[0].Payload})
		if ok != (want != "") || string(got) != want {
			t.Errorf("class %d: %q %v, want %q", class, got, ok, want)
		}
	}
	spec := actor(t)
	spec.OnError = OnErrorPass
	if err := p.Apply(context.Background(), []Spec{spec}); err != nil {
		t.Fatal(err)
	}
	if got, ok, _ := p.renderNow(9, Event{Group: "g1", Payload: []byte("{}")}); !ok || string(got) != "{}" {
		t.Errorf("on_error pass: class 9 gets %q %v", got, ok)
	}
	q := pipeline(t, Options{}, Spec{Name: "pass", Wasm: fixture(t, "pass"), Groups: []string{"*"}})
	if out := q.Process(Event{Group: "g1", Payload: []byte("{}")}, nil); out[0].PerClass {
		t.Error("without on_class an output asks for rendering")
	}
}

// TestRemovedDuringAnEvent: if a plugin is removed and replaced by another while an event is on its way to it, the
// event is dropped. It never passes without a decision.
func TestRemovedDuringAnEvent(t *testing.T) {
	redact := Spec{Name: "redact", Wasm: fixture(t, "actor"), Groups: []string{"g*"}, Grants: Grants, Instances: 1}
	p := pipeline(t, Options{}, redact)
	before := p.routes.Load()
	redact.Name = "redact2"
	if err := p.Apply(t.Context(), []Spec{redact}); err != nil {
		t.Fatal(err)
	}
	ev := Event{Group: "g1", Payload: do("drop")}
	way := traversal{routes: before, outputLimit: maxOutputs}
	if out := way.walk(before.find("g1"), 0, &ev, subscribers{audience: allClasses}, 0, nil, nil); len(out) > 0 || !way.stale {
		t.Errorf("%d events pass the removed plugin, stale %v", len(out), way.stale)
	}
	p.routes.Store(before) // the routes when the event set out
	done := make(chan []Output)
	go func() { done <- p.Process(Event{Group: "g1", Payload: do("drop")}, nil) }()
	if out := <-done; len(out) > 0 {
		t.Errorf("the event passes: %q", out[0].Payload)
	}
	if _, ok, _ := p.renderNow(1, Event{Group: "g1", Payload: []byte("{}")}); ok {
		t.Error("a removed plugin renders")
	}
}

// TestEmissionsAreBounded: the number of emitted events that are followed is bounded, even if none leaves the pipeline.
func TestEmissionsAreBounded(t *testing.T) {
	p := pipeline(
		t,
		Options{},
		Spec{Name: "fan", Wasm: fixture(t, "fan"), Groups: []string{"*"}, Grants: Grants, Instances: 1},
	)
	if out := p.Process(Event{Group: "ga", Payload: []byte("{}")}, nil); len(out) > 0 {
		t.Errorf("%d outputs, want none", len(out))
	}
	if calls := p.Health()[0].Calls; calls != 1+maxEmissions {
		t.Errorf("%d calls for one event", calls)
	}
}

// TestRenderRefusesUnknownClasses: a class above 63 is an error, and not another class's view of the event.
func TestRenderRefusesUnknownClasses(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	if got, ok, err := p.renderNow(63, Event{Group: "g1", Payload: []byte("{}")}); !ok || err != nil {
		t.Errorf("class 63 gets %q, %t, %v", got, ok, err)
	}
	for _, class := range []uint8{64, 64 + 5, 255} {
		if got, ok, err := p.renderNow(class, Event{Group: "g1", Payload: []byte("{}")}); got != nil || ok || err == nil {
			t.Errorf("class %d gets %q, %t, %v, want an error", class, got, ok, err)
		}
	}
}
