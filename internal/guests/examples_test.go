package guests

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Examples are all of examples/plugins.
var examples = []Example{
	{Name: "redact", Go: true},
	{Name: "audience", Go: true, Config: `{"privileged": ["alice"], "strip": ["stdout", "event_data.res"]}`},
}

func example(t testing.TB, name string) Example {
	for _, e := range examples {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no example %s", name)
	return Example{}
}

// Every example does on the real host what its golden samples say.
func TestExamples(t *testing.T) {
	var listed []string
	for _, e := range examples {
		listed = append(listed, e.Name)
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			e.hold(t, e.Wasm(t))
			if _, err := os.Stat(filepath.Join(e.Dir(), "README.md")); err != nil {
				t.Error(err)
			}
		})
	}
	dirs, err := os.ReadDir(filepath.Join(Root, "examples", "plugins"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.IsDir() && !slices.Contains(listed, d.Name()) {
			t.Errorf("example %s is not tested", d.Name())
		}
	}
}

// Who subscribes decides what an event looks like.
func TestAudience(t *testing.T) {
	e := example(t, "audience")
	p := start(t, newClock(), e.spec(e.Wasm(t)))
	for user, class := range map[string]uint8{`{"name":"alice"}`: 1, `{"name":"bob"}`: 0, `{"name":"bob","is_superuser":true}`: 1} {
		if d, err := p.Subscribe(context.Background(), []byte(user), "job_events-42"); err != nil || !d.Allow || d.Class != class {
			t.Errorf("%s: %+v, %v", user, d, err)
		}
	}
	out := p.Process("job_events-42", []byte(`{"stdout":"secret"}`), nil)
	if len(out) != 1 || !out[0].PerClass || string(out[0].Payload) != `{"stdout":"secret"}` {
		t.Errorf("%+v", out)
	}
}
