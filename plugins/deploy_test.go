package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// versioned returns the Spec of a plugin that replaces every {"do":"config"} event by its configuration.
func versioned(t testing.TB, version int) Spec {
	s := actor(t)
	s.Config = json.RawMessage(fmt.Sprint(version))
	return s
}

func TestApplyKeepsUnchangedModules(t *testing.T) {
	ctx := context.Background()
	p := pipeline(t, Options{}, actor(t))
	count := func() string { return show(p.Process(Event{Group: "g1", Payload: do("calls")}, nil)) }
	if got := count(); got != "g1 1" {
		t.Fatal(got)
	}
	// Other groups, another policy, another plugin in the list: the instance stays.
	s := actor(t)
	s.Groups, s.OnError = []string{"g1", "h"}, OnErrorDrop
	if err := p.Apply(ctx, []Spec{{Name: "pass", Wasm: fixture(t, "pass"), Groups: []string{"x"}}, s}); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != "g1 2" {
		t.Errorf("after a reload without changes to module and settings, the instance counts %q, want g1 2", got)
	}
	if got := show(p.Process(Event{Group: "g2", Payload: do("drop")}, nil)); got == "" {
		t.Error("the old patterns are still current")
	}
	if got := show(p.Process(Event{Group: "h", Payload: do("trap")}, nil)); got != "" {
		t.Error("the new policy is not current")
	}
	s.Config = json.RawMessage("1")
	if err := p.Apply(ctx, []Spec{s}); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != "g1 1" {
		t.Errorf("after a change of the configuration the instance counts %q, want a new one: g1 1", got)
	}
	if err := p.Apply(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != "g1 "+string(do("calls")) || len(p.Health()) != 0 {
		t.Errorf("after the plugin is removed an event gives %q", got)
	}
}

func TestApplyIsAllOrNothing(t *testing.T) {
	p := pipeline(t, Options{}, versioned(t, 1))
	good := versioned(t, 2)
	faulty := Spec{
		Name: "a b", Wasm: []byte{0}, OnError: "maybe", Grants: []Grant{"files"}, Config: []byte("{"), Fuel: -1,
		Groups: []string{"", "{env.GROUPS}", "job events", "ok-*", "*"},
	}
	for _, c := range []struct {
		name  string
		specs []Spec
		want  string
	}{
		{
			"no wasm",
			[]Spec{good, {Name: "x", Wasm: []byte("text")}},
			`plugin x: malformed WebAssembly module: it does not begin with "\0asm"`,
		},
		{"twice", []Spec{good, good}, "plugin actor is defined twice"},
		{
			"settings",
			[]Spec{good, faulty},
			"invalid name; use 1 to 64",
		},
		{"no module", []Spec{{Name: "x"}}, "the module is empty"},
		{
			"shadow of an unknown plugin",
			[]Spec{good, {Name: "x", Wasm: fixture(t, "pass"), ShadowOf: "y"}},
			"plugin x shadows y, which is not a plugin with effect",
		},
		{
			"ev_init",
			[]Spec{{Name: "actor", Wasm: good.Wasm, Groups: good.Groups, Grants: Grants, Config: []byte(`"refuse"`)}},
			"ev_init returned 7: the config says so",
		},
	} {
		err := p.Apply(context.Background(), c.specs)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if got := show(p.Process(Event{Group: "g1", Payload: do("config")}, nil)); got != "g1 1" {
			t.Errorf("%s: afterwards an event gives %q, want the old pipeline", c.name, got)
		}
	}
	if err := p.Apply(context.Background(), []Spec{faulty}); err == nil ||
		strings.Count(err.Error(), "; ") < 7 || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "ok-*") {
		t.Errorf("the error does not list all faults of a spec: %v", err)
	}
}

func TestDeploy(t *testing.T) {
	ctx := context.Background()
	p := pipeline(t, Options{}, actor(t))
	act := func() string { return show(p.Process(Event{Group: "g1", Payload: do("replace", "with", "{}")}, nil)) }
	pass := "g1 " + string(do("replace", "with", "{}"))
	if err := p.Deploy(ctx, "unknown", fixture(t, "pass")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a deploy to an unknown plugin: %v", err)
	}
	if err := p.Deploy(ctx, "actor", fixture(t, "hostile/start")); err == nil || act() != "g1 {}" {
		t.Errorf("a bad deploy: %v", err)
	}
	if err := p.Deploy(ctx, "actor", fixture(t, "pass")); err != nil || act() != pass {
		t.Errorf("deploy: %v, %s", err, act())
	}
	if h := p.Health()[0]; h.Hash != Hash(fixture(t, "pass")) || h.Deploys != 1 || h.Hooks != "on_event" ||
		h.Calls != 2 {
		t.Errorf("health after a deploy: %+v", h)
	}
	if err := p.Deploy(ctx, "actor", fixture(t, "actor")); err != nil || act() != "g1 {}" {
		t.Errorf("deploy of the first module: %v, %s", err, act())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{p.Deploy(ctx, "actor", nil), p.Apply(ctx, nil)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if got := act(); got != "" {
		t.Errorf("after Close an event passes its plugin: %q", got)
	}
	if d, err := p.Subscribe(ctx, nil, "g1"); d.Allow || err == nil {
		t.Errorf("after Close a subscription is answered by %+v, %v", d, err)
	}
}

// TestSwapUnderLoad replaces a plugin many times under events of many groups from several callers. Every
// event is answered by exactly one version, none is lost, and no caller sees an older version after a newer one.
func TestSwapUnderLoad(t *testing.T) {
	const callers, swaps = 4, 25
	spec := versioned(t, 0)
	spec.Instances = 2
	p := pipeline(t, Options{}, spec)
	var stop atomic.Bool
	var events atomic.Int64
	var worst atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			event, last := do("config"), 0
			out := make([]Output, 0, 1)
			for i := 0; !stop.Load(); i++ {
				start := time.Now()
				out = p.Process(Event{Group: fmt.Sprintf("g%d-%d", c, i%50), Payload: event}, out[:0])
				if d := int64(time.Since(start)); d > worst.Load() {
					worst.Store(d)
				}
				v := -1
				if len(out) == 1 {
					_, _ = fmt.Sscan(string(out[0].Payload), &v)
				}
				if v < last {
					t.Errorf("an event gives %q after version %d", show(out), last)
					return
				}
				last = v
				events.Add(1)
			}
		})
	}
	for v := 1; v <= swaps; v++ {
		spec := versioned(t, v)
		spec.Instances = 2
		if err := p.Apply(context.Background(), []Spec{spec}); err != nil {
			t.Error(err)
		}
		seen := events.Load()
		testkit.Eventually(t, "events go on", func() bool { return events.Load() > seen+20 || t.Failed() })
	}
	stop.Store(true)
	wg.Wait()
	h := p.Health()[0]
	if h.Calls != uint64(events.Load()) || h.Replaced != h.Calls {
		t.Errorf("%d events, %d calls, %d replaced", events.Load(), h.Calls, h.Replaced)
	}
	t.Logf("%d events over %d swaps, the worst took %v", events.Load(), swaps, time.Duration(worst.Load()))
}

// residentMemory returns the bytes of memory of this process that are resident, which includes machine code; 0 where
// the system does not tell.
func residentMemory() int64 {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	_, _ = fmt.Sscan(string(text), &size, &pages)
	return pages * int64(os.Getpagesize())
}

// TestReloadsKeepMemoryFlat replaces a plugin many times and compares the heap and the resident memory.
func TestReloadsKeepMemoryFlat(t *testing.T) {
	reloads := 1000
	if testing.Short() {
		reloads = 100
	}
	p := pipeline(t, Options{CacheDir: t.TempDir(), Compiler: compilerFunc(CompileModule)}, versioned(t, 0))
	a, b := fixture(t, "pass"), fixture(t, "actor")
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var early uint64
	var residentEarly int64
	for i := range reloads {
		wasm := a
		if i%2 == 1 {
			wasm = b
		}
		if err := p.Deploy(context.Background(), "actor", wasm); err != nil {
			t.Fatal(err)
		}
		p.Process(Event{Group: "g1", Payload: do("calls")}, nil)
		if i == reloads/10-1 { // the same module is live as at the end
			early, residentEarly = measure(), residentMemory()
		}
	}
	late, residentLate := measure(), residentMemory()
	t.Logf("resident after %d reloads %d KiB, after %d %d KiB", reloads/10, residentEarly>>10, reloads, residentLate>>10)
	if residentLate > residentEarly+8<<20 {
		t.Errorf("resident memory grew from %d to %d KiB", residentEarly>>10, residentLate>>10)
	}
	if n := len(p.host.codes.entries); n != 1 {
		t.Errorf("the code of %d modules is kept", n)
	}
	t.Logf("heap after %d reloads %d KiB, after %d %d KiB", reloads/10, early>>10, reloads, late>>10)
	if late > early+512<<10 {
		t.Errorf("the heap grew from %d to %d KiB", early>>10, late>>10)
	}
}

func TestLastGood(t *testing.T) {
	ctx := context.Background()
	spec := Spec{
		Name:      "p",
		Wasm:      fixture(t, "hostile/trap"),
		Groups:    []string{"*"},
		OnError:   OnErrorLastGood,
		Grants:    Grants,
		Instances: 1,
	}
	p := pipeline(t, Options{}, spec)
	if got := show(p.Process(Event{Group: "g1", Payload: do("replace", "with", "{}")}, nil)); got != "" {
		t.Errorf("without a good version an event gives %q, want no output", got)
	}
	if err := p.Deploy(ctx, "p", fixture(t, "actor")); err != nil {
		t.Fatal(err)
	}
	if got := show(p.Process(Event{Group: "g1", Payload: do("replace", "with", "{}")}, nil)); got != "g1 {}" {
		t.Fatalf("the good version gives %q", got)
	}
	if err := p.Deploy(ctx, "p", fixture(t, "hostile/trap")); err != nil {
		t.Fatal(err)
	}
	for range 20 { // also once the breaker is open
		if got := show(p.Process(Event{Group: "g1", Payload: do("replace", "with", "{}")}, nil)); got != "g1 {}" {
			t.Fatalf("under a bad version an event gives %q, want the result of the last good version", got)
		}
	}
	if h := p.Health()[0]; h.Breaker != "open" || h.CallsSkipped != 15 || h.Failures[KindTrap] != 6 {
		t.Errorf("health: %+v", h)
	}
}

// A module that was accepted by other rules does not decide for one that fails.
func TestLastGoodOfOtherRules(t *testing.T) {
	ctx := context.Background()
	event := Event{Group: "g1", Payload: do("replace", "with", "{}")}
	for _, change := range []string{"with the module", "later"} {
		spec := Spec{
			Name: "p", Wasm: fixture(t, "actor"), Groups: []string{"g*"}, OnError: OnErrorLastGood, Grants: Grants, Instances: 1,
			Trust: "before",
		}
		p := pipeline(t, Options{}, spec)
		if got := show(p.Process(event, nil)); got != "g1 {}" {
			t.Fatalf("the good version gives %q", got)
		}
		spec.Wasm = fixture(t, "hostile/trap")
		if change == "later" {
			if err := p.Apply(ctx, []Spec{spec}); err != nil {
				t.Fatal(err)
			}
			if got := show(p.Process(event, nil)); got != "g1 {}" {
				t.Fatalf("under the same rules an event gives %q", got)
			}
		}
		spec.Trust = "after"
		if err := p.Apply(ctx, []Spec{spec}); err != nil {
			t.Fatal(err)
		}
		if got := show(p.Process(event, nil)); got != "" {
			t.Errorf("other rules %s: the version before gives %q", change, got)
		}
	}
}

func TestLogs(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	p := pipeline(t, Options{Now: func() time.Time { return now }}, actor(t))
	p.Process(Event{Group: "g1", Payload: do("log")}, nil)
	lines, err := p.Logs("actor")
	if err != nil || len(lines) != logBurst || lines[0].Text != "a line" {
		t.Fatalf("%d lines of 300 were written, want %d (%v)", len(lines), logBurst, err)
	}
	now = now.Add(time.Minute)
	p.Process(Event{Group: "g1", Payload: do("error")}, nil)
	p.Process(Event{Group: "g1", Payload: do("log")}, nil)
	lines, _ = p.Logs("actor")
	if len(lines) != logKept || lines[len(lines)-1].Text != "a line" || lines[100].Text != "it was asked for" ||
		lines[101].Text != "plugin actor: ev_on_event: the plugin reported an error: it was asked for (group g1)" {
		t.Errorf("%d lines are kept; two of them: %q, %q", len(lines), lines[100].Text, lines[101].Text)
	}
	if _, err := p.Logs("unknown"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestSlowStart: while a new instance starts slowly, on_error decides about events, and they do not wait for the
// instance.
func TestSlowStart(t *testing.T) {
	spec := Spec{
		Name: "slow", Wasm: fixture(t, "slow_start"), Groups: []string{"*"}, Instances: 1,
		InitTimeout: time.Minute, MaxFailures: 1000, OnError: OnErrorPass,
	}
	began := time.Now()
	p := pipeline(t, Options{startWait: 20 * time.Millisecond}, spec)
	startup := time.Since(began) // grows with the load of the machine, as the wait does
	var worst time.Duration
	for range 12 {
		start := time.Now()
		if got := show(p.Process(Event{Group: "g1", Payload: []byte("{}")}, nil)); got != "g1 {}" {
			t.Fatalf("an event gives %q", got)
		}
		worst = max(worst, time.Since(start))
	}
	h := p.Health()[0]
	if h.Failures[KindStart] == 0 || h.Failures[KindTrap] == 0 || worst > max(time.Second, 2*startup) {
		t.Errorf("failures %v, the longest wait %v, an instance starts in %v", h.Failures, worst, startup)
	}
	testkit.Eventually(t, "the plugin is called again once an instance is ready", func() bool {
		p.Process(Event{Group: "g1", Payload: []byte("{}")}, nil)
		return p.Health()[0].Failures[KindTrap] > h.Failures[KindTrap]
	})
}
