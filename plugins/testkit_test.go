package plugins

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fixture reads a guest. The sources are beside it; testdata/build.sh rebuilds them.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("testdata", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

var quiet = slog.New(slog.DiscardHandler)

// pipeline makes a Pipeline of the specs and closes it with the test.
func pipeline(t testing.TB, o Options, specs ...Spec) *Pipeline {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	if o.startWait == 0 {
		o.startWait = time.Minute // a busy machine must not look like a failing plugin
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := p.Apply(context.Background(), specs); err != nil {
		t.Fatal(err)
	}
	return p
}

// actor returns the Spec of a plugin that follows the instruction in each event.
func actor(t testing.TB) Spec {
	return Spec{
		Name: "actor", Wasm: fixture(t, "actor"), Groups: []string{"g*"}, Grants: Grants, Instances: 1,
		Fuel: DefaultFuel, Timeout: time.Minute, // a busy machine must not look like a failing plugin
	}
}

// renderNow is Render for an event that has just been through its plugins.
func (p *Pipeline) renderNow(class uint8, ev Event) (rendered []byte, ok bool, err error) {
	rt := p.routes.Load().find(ev.Group)
	of := subscribers{generation: rt.liveGeneration()}
	for i := range rt.steps {
		if m := rt.steps[i].live(); m != nil && m.hooks&OnClass != 0 {
			of.renderers = mixGeneration(of.renderers, rt.steps[i].number)
		}
	}
	return p.Render(class, ev, &Output{Generation: of.generation, renderers: of.renderers})
}

// do builds the event that makes the actor act.
func do(what string, more ...string) []byte {
	m := map[string]string{"do": what}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}
