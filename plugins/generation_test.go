package plugins

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
)

// TestGenerations: an output and a decision are of the generation of the modules with on_subscribe, in order, and other
// modules do not matter.
func TestGenerations(t *testing.T) {
	pass := Spec{Name: "pass", Wasm: fixture(t, "pass"), Groups: []string{"*"}}
	first, second := actor(t), actor(t)
	second.Name, second.Groups = "second", []string{"g-both"}
	p := pipeline(t, Options{}, pass, first, second)
	var changes int
	p.OnReclassify(func() { changes++ })
	check := func(want int, what string) map[string]uint64 {
		t.Helper()
		if changes != want {
			t.Errorf("after %s, %d changes are reported, want %d", what, changes, want)
		}
		now := map[string]uint64{}
		for _, group := range []string{"other", "g1", "g-both"} {
			now[group] = p.Generation(group)
			out := p.Process(Event{Group: group, Payload: do("split")}, nil)
			out = append(out, p.Process(Event{Group: group, Payload: do("pass")}, nil)...)
			for _, o := range out {
				if o.Generation != now[group] || o.PerClass != (group != "other") {
					t.Errorf("after %s, %s has generation %x and PerClass %t, want %x", what, group, o.Generation, o.PerClass,
						now[group])
				}
			}
			if d, err := p.Subscribe(t.Context(), nil, group); err != nil || d.Generation != now[group] {
				t.Errorf("after %s, a decision about %s has generation %x, want %x (%v)", what, group, d.Generation,
					now[group], err)
			}
		}
		if now["other"] != 0 || now["g1"] == 0 || now["g1"] == now["g-both"] {
			t.Errorf("after %s, generations are %x, want 0 and two others", what, now)
		}
		return now
	}
	before := check(0, "the start")
	if err := p.Deploy(t.Context(), "pass", fixture(t, "filter")); err != nil {
		t.Fatal(err)
	}
	if now := check(0, "the deployment of a module without on_subscribe"); now["g1"] != before["g1"] {
		t.Error("a module without on_subscribe changes the generation")
	}
	second.Config = json.RawMessage("1")
	if err := p.Apply(t.Context(), []Spec{pass, first, second}); err != nil {
		t.Fatal(err)
	}
	now := check(1, "a change of the second plugin")
	if now["g1"] != before["g1"] || now["g-both"] == before["g-both"] {
		t.Errorf("generations were %x and are %x, want another one for g-both only", before, now)
	}
	out := p.Process(Event{Group: "g-both", Payload: []byte("{}")}, nil)
	second.Groups = []string{"g-none"}
	if err := p.Apply(t.Context(), []Spec{pass, first, second}); err != nil {
		t.Fatal(err)
	}
	if changes != 2 || p.Generation("g-both") != now["g1"] {
		t.Error("a change of groups is no change of generations")
	}
	view := Event{Group: "g-both", Payload: out[0].Payload}
	if got, ok, err := p.Render(5, view, &out[0]); ok || err != ErrReclassified {
		t.Errorf("an output of an earlier generation is rendered as %q (%v)", got, err)
	}
	if got, ok, err := p.renderNow(5, view); !ok || err != nil || string(got) != `{"for":5}` {
		t.Errorf("an output of the generation is rendered as %q (%v)", got, err)
	}
}

// TestGenerationsUnderChange: while modules are replaced, an output's generation tells which module has processed it.
func TestGenerationsUnderChange(t *testing.T) {
	spec := func(config int) Spec {
		s := actor(t)
		s.Config = json.RawMessage(fmt.Sprint(config))
		return s
	}
	p := pipeline(t, Options{}, spec(0))
	stop := make(chan struct{})
	var mu sync.Mutex
	configs := map[uint64]string{} // by generation
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			var out []Output
			for {
				select {
				case <-stop:
					return
				default:
				}
				out = p.Process(Event{Group: "g1", Payload: do("config")}, out[:0])
				if len(out) != 1 || !out[0].PerClass {
					t.Errorf("outputs are %v, want one", out)
					return
				}
				generation, config := out[0].Generation, string(out[0].Payload)
				mu.Lock()
				if known, ok := configs[generation]; ok && known != config {
					t.Errorf("generation %x has the configurations %s and %s", generation, known, config)
				}
				configs[generation] = config
				mu.Unlock()
			}
		})
	}
	for config := range 20 {
		if err := p.Apply(t.Context(), []Spec{spec(config + 1)}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	callers.Wait()
}

// TestLastGoodKeepsClassesApart: if the module before takes an event, its audience is not that of classes of the live
// module.
func TestLastGoodKeepsClassesApart(t *testing.T) {
	spec := actor(t)
	spec.OnError = OnErrorLastGood
	p := pipeline(t, Options{}, spec)
	p.Process(Event{Group: "g1", Payload: do("pass")}, nil)
	before := p.Generation("g1")
	spec.Fuel, spec.FuelPerByte = 1, -1 // every call fails
	if err := p.Apply(t.Context(), []Spec{spec}); err != nil {
		t.Fatal(err)
	}
	out := p.Process(Event{Group: "g1", Payload: do("audience")}, nil)
	if len(out) != 1 || out[0].Generation != before {
		t.Errorf("outputs %+v, want one of the generation %x of the module before", out, before)
	}
	view := Event{Group: "g1", Payload: []byte("{}")}
	if got, ok, _ := p.renderNow(5, view); ok {
		t.Errorf("the module before renders %q for a class of the live module", got)
	}
}

// TestViewsNeedTheirPlugins: an event whose plugin decides for each class by on_class is not rendered without on_class
// of that plugin, whatever has taken the plugin's place meanwhile.
func TestViewsNeedTheirPlugins(t *testing.T) {
	views := Spec{Name: "views", Wasm: fixture(t, "views"), Groups: []string{"g*"}, OnError: OnErrorLastGood}
	p := pipeline(t, Options{}, views)
	secret := Event{Group: "g1", Payload: []byte(`{"secret":1}`)}
	process := func() Output {
		t.Helper()
		out := p.Process(secret, nil)
		if len(out) != 1 || !out[0].PerClass {
			t.Fatalf("outputs are %+v, want one with PerClass", out)
		}
		return out[0]
	}
	check := func(o Output, want error, what string) {
		t.Helper()
		if got, ok, err := p.Render(0, secret, &o); ok || err != want {
			t.Errorf("%s: %q, %t, %v, want nothing and %v", what, got, ok, err, want)
		}
	}
	before := process()
	check(before, nil, "the module that has processed the event")

	views.Config = json.RawMessage("1")
	if err := p.Apply(t.Context(), []Spec{views}); err != nil {
		t.Fatal(err)
	}
	check(before, nil, "another module with on_class")

	other := views
	other.Wasm, other.Fuel, other.FuelPerByte = fixture(t, "filter"), 1, -1 // every call fails
	if err := p.Apply(t.Context(), []Spec{other}); err != nil {
		t.Fatal(err)
	}
	check(before, ErrReclassified, "a module without on_class")
	check(process(), ErrReclassified, "an event that the module before has taken by last_good")

	other.Name, other.Wasm = "other", fixture(t, "pass")
	if err := p.Apply(t.Context(), []Spec{other}); err != nil {
		t.Fatal(err)
	}
	check(before, ErrReclassified, "another plugin")
}
