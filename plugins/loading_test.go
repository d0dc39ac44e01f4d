package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins/internal/hostile"
)

// compilerFunc is a Compiler.
type compilerFunc func(ctx context.Context, dir string, wasm []byte) error

func (f compilerFunc) Compile(ctx context.Context, dir string, wasm []byte) error {
	return f(ctx, dir, wasm)
}

// stuck is a Compiler that does not get done with the modules that contain a text.
type stuck struct {
	text     string
	reached  chan struct{} // gets an element for each module that is stuck
	compiled atomic.Int64
}

func (s *stuck) Compile(ctx context.Context, dir string, wasm []byte) error {
	if bytes.Contains(wasm, []byte(s.text)) {
		s.reached <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	s.compiled.Add(1)
	return CompileModule(ctx, dir, wasm)
}

// marked returns an actor that differs from the usual one by a text.
func marked(t testing.TB, mark string) []byte {
	const text = "it was asked for"
	return bytes.Replace(fixture(t, "actor"), []byte(text), fmt.Appendf(nil, "%-*s", len(text), mark), 1)
}

// TestNoChangeWaitsForACompiler: while a deployment is stuck in the compiler, all other changes go on.
func TestNoChangeWaitsForACompiler(t *testing.T) {
	needMachineCode(t)
	ctx := context.Background()
	c := &stuck{text: "hostile", reached: make(chan struct{}, 8)}
	o := Options{CacheDir: t.TempDir(), Compiler: c}
	p := pipeline(t, o, versioned(t, 1),
		Spec{Name: "other", Wasm: fixture(t, "pass"), Groups: []string{"x"}, Grants: Grants})
	deploy := func(ctx context.Context, name string, wasm []byte) chan error {
		done := make(chan error, 1)
		go func() { done <- p.Deploy(ctx, name, wasm) }()
		return done
	}
	soon := func(what string, f func() error) {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- f() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s waits for the compiler", what)
		}
	}
	first := deploy(ctx, "actor", marked(t, "hostile"))
	<-c.reached
	soon("the deployment of another plugin", func() error { return p.Deploy(ctx, "other", fixture(t, "actor")) })
	soon("the deployment of a compiled module", func() error { return p.Deploy(ctx, "actor", fixture(t, "pass")) })
	soon("a reload", func() error { return p.Apply(ctx, []Spec{versioned(t, 2)}) })
	soon("changed samples", func() error { p.SetSamples("actor", nil); return p.CheckLive(ctx, "actor") })
	soon("health", func() error { _, err := p.Logs("actor"); p.Health(); return err })
	if got := shownConfig(p, "g1"); got != "g1 2" {
		t.Errorf("an event gives %q", got)
	}
	gone, leave := context.WithCancel(ctx)
	second := deploy(gone, "actor", marked(t, "hostile 2"))
	leave()
	soon("a deployment whose client is gone", func() error {
		if err := <-second; !errors.Is(err, context.Canceled) {
			return fmt.Errorf("%w, want that it is canceled", err)
		}
		return nil
	})
	soon("the end", p.Close)
	soon("the first deployment, after the end", func() error {
		if err := <-first; !errors.Is(err, ErrClosed) {
			return fmt.Errorf("%w, want ErrClosed", err)
		}
		return nil
	})
}

// Four plugins may compile at a time, whatever each of them is given to compile.
func TestPluginCompilesOneModuleAtATime(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &stuck{text: "hostile", reached: make(chan struct{}, 8)}
	p := pipeline(t, Options{CacheDir: t.TempDir(), Compiler: c},
		actor(t), Spec{Name: "other", Wasm: fixture(t, "pass"), Groups: []string{"x"}, Grants: Grants})
	const deployments = 2 * maxCompilations
	done := make(chan error, deployments)
	for i := range deployments {
		go func() { done <- p.Deploy(ctx, "actor", marked(t, fmt.Sprint("hostile ", i))) }()
	}
	<-c.reached
	if err := p.Deploy(ctx, "other", marked(t, "fine")); err != nil {
		t.Error(err)
	}
	if n := len(c.reached); n != 0 {
		t.Errorf("%d more modules of the plugin are being compiled", n)
	}
	cancel()
	for range deployments {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	testkit.Eventually(t, "the end of all compilations", func() bool {
		p.host.codes.mu.Lock()
		defer p.host.codes.mu.Unlock()
		return len(p.host.codes.busy)+len(p.host.codes.running) == 0 // before the pipeline is closed
	})
}

// Equal modules are compiled once, and kept for the next start.
func TestModulesAreCompiledOnce(t *testing.T) {
	needMachineCode(t)
	dir := t.TempDir()
	c := &stuck{text: "hostile"}
	var specs []Spec
	for i := range 5 {
		s := actor(t)
		s.Name = fmt.Sprint("actor", i)
		specs = append(specs, s)
	}
	for range 2 {
		p := pipeline(t, Options{CacheDir: dir, Compiler: c}, specs...)
		if h := p.Health(); h[4].Engine != CurrentEngine() {
			t.Errorf("the engine is %q", h[4].Engine)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(p.host.codes.entries); n != 0 {
			t.Errorf("%d modules are held after the end", n)
		}
	}
	if n := c.compiled.Load(); n != 1 {
		t.Errorf("%d compilations, want 1", n)
	}
}

// What this process finds in the cache is no reason to compile there.
func TestDamagedCacheIsCompiledAgain(t *testing.T) {
	needMachineCode(t)
	dir := t.TempDir()
	c := &stuck{text: "hostile"}
	o := Options{CacheDir: dir, Compiler: c}
	load := func() error {
		p, err := New(o)
		if err != nil {
			return err
		}
		defer func() { _ = p.Close() }()
		return p.Apply(context.Background(), []Spec{actor(t)})
	}
	files := func() []string {
		list, err := filepath.Glob(filepath.Join(dir, "*", "wazero-*", "*"))
		if err != nil || len(list) != 1 {
			t.Fatalf("the cache has %q (%v)", list, err)
		}
		return list
	}
	for n, damage := range []func(name string) error{
		func(string) error { return nil },
		os.Remove,
		func(name string) error { return os.Truncate(name, 0) },
		func(name string) error { return os.Truncate(name, 1000) },
		func(name string) error { return os.WriteFile(name, bytes.Repeat([]byte{1}, 5000), 0o600) },
	} {
		if n > 0 {
			if err := damage(files()[0]); err != nil {
				t.Fatal(err)
			}
		}
		if err := load(); err != nil {
			t.Errorf("damage %d: %v", n, err)
		}
		if got := c.compiled.Load(); got != int64(n+1) {
			t.Errorf("damage %d: %d compilations", n, got)
		}
	}
	// A compiler that claims to be done does not make this process compile.
	o.Compiler = compilerFunc(func(context.Context, string, []byte) error { return nil })
	if err := os.Remove(files()[0]); err != nil {
		t.Fatal(err)
	}
	if err := load(); !errors.Is(err, errNotCompiled) {
		t.Errorf("a compiler without a result: %v", err)
	}
}

// Without a disk, the Compiler still finds out whether this process can compile a module.
func TestLoadingWithoutADirectory(t *testing.T) {
	needMachineCode(t)
	ctx := context.Background()
	disk := fmt.Errorf("%w: no space left", errDisk)
	for _, c := range []struct {
		name       string
		dir        bool
		inDir, not error // of the compiler, with a directory and without one
		maxSize    int
		want       string // in the error
		wantLog    string
	}{
		{"no directory", false, nil, nil, 0, "", ""},
		{"no directory, and too much work", false, nil, errors.New("too much work"), 0, "too much work", ""},
		{"no directory, and too large", false, nil, nil, 1000, "make the directory writable", ""},
		{"a full disk", true, disk, nil, 0, "", "compiled plugin not cached on disk"},
		{"a full disk, and too much work", true, disk, errors.New("too much work"), 0, "too much work", "not cached"},
		{"a full disk, and too large", true, disk, nil, 1000, "build a smaller module", "not cached"},
		{"no compiler", true, ErrNoCompiler, ErrNoCompiler, 0, "", "plugins compiled in the server's process"},
		{"no compiler, and too large", true, ErrNoCompiler, ErrNoCompiler, 1000, "build a smaller module", "server's"},
		{"rejected", true, errors.New("too much work"), nil, 0, "too much work", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			o := Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), MaxUncachedModule: c.maxSize}
			if c.dir {
				o.CacheDir = t.TempDir()
			}
			o.Compiler = compilerFunc(func(_ context.Context, dir string, _ []byte) error {
				if dir == "" {
					return c.not
				}
				return c.inDir
			})
			p, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close() }()
			err = p.Apply(ctx, []Spec{actor(t)})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if got := log.String(); !strings.Contains(got, c.wantLog) || c.wantLog == "" && got != "" {
				t.Errorf("the log says %q, want %q", got, c.wantLog)
			}
			if c.dir {
				if left, _ := filepath.Glob(filepath.Join(o.CacheDir, "*")); len(left) > 0 {
					t.Errorf("the directory has %q", left)
				}
			}
		})
	}
}

func TestStoreIsPruned(t *testing.T) {
	dir := t.TempDir()
	s, err := openCodeStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	make := func(name string, age time.Duration, size int64) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name, "code")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, size); err != nil {
			t.Fatal(err)
		}
		at := now.Add(-age)
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	hash := func(n int) string { return Hash([]byte{byte(n)}) }
	for n := range 40 {
		make(hash(n), time.Duration(n)*time.Minute, 1000)
	}
	make(hash(50), -time.Minute, maxStoredBytes/2) // the last used one
	make(hash(51), 30*time.Second, maxStoredBytes) // does not fit beside it
	make(hash(52), time.Hour, maxStoredBytes)      // in use
	make("wazero-v1.0.0-amd64-linux", 0, 1000)     // of an older version
	make(tempPrefix+"1", time.Minute, 1000)        // another process compiles
	make(tempPrefix+"2", 2*abandonedAfter, 1000)   // ended in the middle
	make("something else", 2*abandonedAfter, 1000) // not the store's
	s.prune(map[string]bool{hash(52): true, hash(39): true})
	has := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	for name, want := range map[string]bool{
		hash(0): true, hash(20): false, hash(38): false, hash(39): true, hash(50): true, hash(51): false, hash(52): true,
		"wazero-v1.0.0-amd64-linux": false, tempPrefix + "1": true, tempPrefix + "2": false, "something else": true,
	} {
		if has(name) != want {
			t.Errorf("%s is there: %v, want %v", name, has(name), want)
		}
	}
}

// A child that is canceled, or runs for too long, leaves nothing behind.
func TestChildEndsWithItsContext(t *testing.T) {
	needMachineCode(t)
	ctx, cancel := context.WithCancel(context.Background())
	wasm := hostile.LocalsInLoops(2000, 1000)
	done := make(chan error, 1)
	limits := Limits{CPU: time.Minute, Memory: 1 << 30}
	go func() { done <- child(t, limits).Compile(ctx, t.TempDir(), wasm) }()
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that the context is canceled", err)
	}
	limits.Time = time.Second
	err := child(t, limits).Compile(context.Background(), t.TempDir(), wasm)
	if err == nil || !strings.Contains(err.Error(), "raise the time") {
		t.Errorf("a child beyond its time: %v", err)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(dir, "missing"), text} {
		c := &ChildCompiler{Command: []string{name}}
		if err := c.Compile(context.Background(), dir, []byte("x")); !errors.Is(err, ErrNoCompiler) {
			t.Errorf("%s: %v, want ErrNoCompiler", name, err)
		}
	}
	c := &ChildCompiler{Command: []string{"/bin/sh", "-c", "exit 3"}}
	if err := c.Compile(context.Background(), dir, []byte("x")); err == nil || errors.Is(err, ErrNoCompiler) {
		t.Errorf("another program as the compiler: %v", err)
	}
}

func TestCompileLimits(t *testing.T) {
	for _, c := range []struct {
		limits Limits
		want   string
	}{
		{Limits{}, ""},
		{Limits{CPU: time.Second, Memory: minCompileMemory, Time: time.Second}, ""},
		{Limits{CPU: time.Millisecond}, "invalid cpu"},
		{Limits{CPU: 1500 * time.Millisecond}, "invalid cpu"},
		{Limits{Memory: 1 << 20}, "invalid memory"},
		{Limits{Memory: 1 << 40}, "invalid memory"},
		{Limits{Time: time.Hour}, "invalid time"},
		{Limits{Time: -1}, "invalid time"},
	} {
		if _, err := c.limits.WithDefaults(); (err == nil) != (c.want == "") ||
			err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.limits, err, c.want)
		}
	}
}
