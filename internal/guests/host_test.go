package guests

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// cacheDir keeps compiled modules during the test run.
var cacheDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "guests")
	if err != nil {
		panic(err)
	}
	cacheDir = filepath.Join(dir, "cache")
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// options returns the options of a silent host with the clock of the test.
func options(c *clock) plugins.Options {
	return plugins.Options{
		CacheDir: cacheDir,
		Logger:   slog.New(slog.DiscardHandler),
		Now:      func() time.Time { return c.now },
	}
}

// clock is a clock that the test sets.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

// spec returns the Spec of an example that is bound to every group.
func (e Example) spec(wasm []byte) plugins.Spec {
	s := plugins.Spec{Name: e.Name, Wasm: wasm, Groups: []string{"*"}, Instances: 1, JSON: true}
	if e.Config != "" {
		s.Config = []byte(e.Config)
	}
	for _, g := range e.Grants {
		s.Grants = append(s.Grants, plugins.Grant(g))
	}
	return s
}

// start runs plugins on the real host.
func start(t testing.TB, c *clock, specs ...plugins.Spec) *plugins.Pipeline {
	t.Helper()
	p, err := plugins.New(options(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if err := p.Apply(context.Background(), specs); err != nil {
		t.Fatal(err)
	}
	return p
}

// check runs the samples on a module in the real host and reports the differences.
func (e Example) check(t *testing.T, wasm []byte) {
	t.Helper()
	c := newClock()
	if p := start(t, c, e.spec(wasm)); strings.Contains(p.Health()[0].Hooks, plugins.OnClass.String()) {
		e.checkClasses(t, p)
		return
	}
	spec := e.spec(wasm)
	trial, err := plugins.Try(context.Background(), options(c), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer trial.Close()
	for i, s := range Samples(t, e.Dir()+"/events.ndjson") {
		spec.Samples = append(spec.Samples, s.Sample)
		tr := trial.Event(plugins.Event{Group: s.Group, Payload: s.Payload})
		if tr.Verdict.String() != s.Verdict {
			t.Errorf("sample %d: verdict %s, want %s (%v)", i+1, tr.Verdict, s.Verdict, tr.Err)
			continue
		}
		emitted := tr.Outputs
		if s.Verdict != "drop" {
			emitted = emitted[1:]
			if len(s.Output) > 0 && !SameJSON(tr.Outputs[0].Payload, s.Output) {
				t.Errorf("sample %d: output\n%s, want\n%s", i+1, tr.Outputs[0].Payload, s.Output)
			}
		}
		if len(emitted) != len(s.Emits) {
			t.Errorf("sample %d: %d events emitted, want %d", i+1, len(emitted), len(s.Emits))
			continue
		}
		for j, m := range s.Emits {
			if emitted[j].Group != m.Group || !SameJSON(emitted[j].Payload, m.Payload) {
				t.Errorf(
					"sample %d: emitted\n%s to %s, want\n%s to %s",
					i+1,
					emitted[j].Payload,
					emitted[j].Group,
					m.Payload,
					m.Group,
				)
			}
		}
	}
	// The samples file of a relay gives the same result.
	if err := start(t, c).Check(context.Background(), spec); err != nil {
		t.Error(err)
	}
}

func (e Example) checkClasses(t *testing.T, p *plugins.Pipeline) {
	for i, s := range Samples(t, e.Dir()+"/classes.ndjson") {
		out, ok, _ := p.Render(s.Class, plugins.Event{Group: s.Group, Payload: s.Payload})
		switch {
		case !ok && s.Verdict != "drop":
			t.Errorf("sample %d: nothing is rendered", i+1)
		case s.Verdict == "pass" && string(out) != string(s.Payload),
			s.Verdict == "replace" && !SameJSON(out, s.Output):
			t.Errorf("sample %d: rendered\n%s", i+1, out)
		}
	}
}
