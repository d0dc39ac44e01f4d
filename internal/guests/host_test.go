package guests

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
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

// patience is the timeout of calls, which a busy machine may interrupt for long.
const patience = 20 * time.Second

// spec returns the Spec of an example that is bound to every group.
func (e Example) spec(wasm []byte) plugins.Spec {
	s := plugins.Spec{
		Name: e.Name, Wasm: wasm, Groups: []string{"*"}, Instances: 1, JSON: true,
		Timeout: patience, Fuel: plugins.DefaultFuel, // which Timeout would raise
	}
	if e.Config != "" {
		s.Config = []byte(e.Config)
	}
	for _, g := range e.Grants {
		s.Grants = append(s.Grants, plugins.Grant(g))
		if g == string(plugins.GrantTick) {
			s.Tick = time.Hour // not during a test
		}
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
	spec := e.spec(wasm)
	trial, err := plugins.Try(context.Background(), options(newClock()), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer trial.Close()
	for _, file := range e.samples(t) {
		spec.Samples = append(spec.Samples, Samples(t, file)...)
	}
	hooks := trial.Hooks()
	for i := range spec.Samples {
		tr := trial.Run(&spec.Samples[i])
		hooks &^= tr.Hook
		if err := spec.Samples[i].Compare(&tr); err != nil {
			t.Errorf("sample %d: %v", i+1, err)
		}
	}
	if hooks != 0 {
		t.Errorf("no sample of %s; every hook needs one", hooks)
	}
	// The samples of a relay give the same result.
	if err := start(t, newClock()).Check(context.Background(), spec); err != nil {
		t.Error(err)
	}
}

// samples returns the example's files of samples.
func (e Example) samples(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(e.Dir(), "*.ndjson"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files of samples, %v", e.Name, err)
	}
	return files
}
