package hostile

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// maxCall bounds a call with the default timeout of 50 ms, on a busy machine.
	maxCall = 2 * time.Second
	// maxHeld bounds the memory that is held after a plugin has gone, in bytes.
	maxHeld = 32 << 20
	// maxServerCalls bounds what the server needs during the calls, in bytes: instances with their spare, the events that
	// wait, and results on their way. A collection comes only when the memory has doubled.
	maxServerCalls = 768 << 20
)

// callKind is a kind of hostile calls.
type callKind struct {
	name    string
	file    string // of the module; "": testdata/<name>.wasm
	payload int    // size of the payload in bytes; 0: a few
	classes uint8  // of the subscribers; 0: one
	hook    plugins.Hook
	change  func(*plugins.Spec)
}

// callKinds are the kinds that need more than an event. All other modules in the folders have a row without settings.
var callKinds = []callKind{
	{name: "alarm_spin", hook: plugins.OnAlarm},
	{name: "buffer_spin", payload: 20_000},
	{name: "chase", file: "../../../bench/testdata/chase.wasm"}, // slow, and succeeds
	{name: "class_emit", classes: 64, hook: plugins.OnClass},
	{name: "class_large", payload: 300_000, classes: 64, hook: plugins.OnClass},
	{name: "class_spin", classes: 64, hook: plugins.OnClass},
	{name: "close_spin", hook: plugins.OnClose},
	{name: "connect_spin", hook: plugins.OnConnect},
	{name: "cycle", change: func(s *plugins.Spec) { s.Fuel = 10_000_000 }},
	{name: "emit_large", payload: 4 << 20},
	{name: "init_long", change: func(s *plugins.Spec) { s.MaxFailures, s.Cooldown = 1<<20, time.Nanosecond }},
	{name: "json_deep", payload: 1 << 20},
	{name: "json_flood", payload: 500_000},
	{name: "message_flood", hook: plugins.OnMessage},
	{name: "message_grow", hook: plugins.OnMessage},
	{name: "message_spin", hook: plugins.OnMessage},
	{name: "message_trap_flood", hook: plugins.OnMessage},
	{name: "names", change: func(s *plugins.Spec) { s.Wasm = WithName(s.Wasm, 5, 3<<20) }},
	{name: "pass_large", file: "../../testdata/pass.wasm", payload: 4 << 20},
	{name: "replace_many", payload: 4 << 20},
	{name: "request_flood", hook: plugins.OnMessage},
	{name: "result_spin", hook: plugins.OnMessage},
	{name: "shadow", file: "../../testdata/hostile/misses.wasm", change: func(s *plugins.Spec) { s.Shadow = true }},
	startKind("start_data", Module{
		Pages: 512, Data: [][]byte{slices.Concat([]byte{0, 0x41, 0, end}, leb(8<<20), make([]byte, 8<<20))},
	}),
	startKind("start_functions", Module{Bodies: slices.Repeat([][]byte{function(0)}, 30_000)}),
	startKind("start_tables", Module{Tables: slices.Repeat([][]byte{append([]byte{0x70, 0}, leb(131_072)...)}, 16)}),
	{name: "subscribe_slow", hook: plugins.OnSubscribe},
	{name: "subscribe_spin", hook: plugins.OnSubscribe},
	{name: "tick_emit", hook: plugins.OnTick, change: func(s *plugins.Spec) { s.Tick = 10 * time.Millisecond }},
	{name: "tick_spin", hook: plugins.OnTick, change: func(s *plugins.Spec) { s.Tick = 10 * time.Millisecond }},
}

// startKind is a module that is expensive to start, and traps at each event.
func startKind(name string, m Module) callKind {
	m.Event = Trap
	return callKind{name: name, file: "../../testdata/hostile/trap.wasm", change: func(s *plugins.Spec) {
		s.Wasm, s.MaxFailures = m.Wasm(), 1<<20
	}}
}

// hostileFolders hold modules that load, and are hostile when they are called.
var hostileFolders = []string{"testdata", "../../testdata/hostile"}

// rejected are modules of the folders that do not load, or would not end with the plugin's own limits: see loadKinds.

var quiet = slog.New(slog.DiscardHandler)

var rejected = strings.Fields(`buffer_range buffer_refused command exports_missing import_granted import_memory import_unknown
	init init_refuses initialize_spin memory_huge start start_trap table_huge version`)

// allCallKinds returns callKinds, and a kind for each other module of the folders.
func allCallKinds(t *testing.T) []callKind {
	t.Helper()
	kinds := slices.Clone(callKinds)
	for i := range kinds {
		if kinds[i].file == "" {
			kinds[i].file = "testdata/" + kinds[i].name + ".wasm"
		}
	}
	for _, folder := range hostileFolders {
		files, err := filepath.Glob(folder + "/*.wasm")
		if err != nil || len(files) == 0 {
			t.Fatalf("no modules in %s: %v", folder, err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".wasm")
			has := func(k callKind) bool { return k.name == name }
			if !slices.Contains(rejected, name) && !slices.ContainsFunc(kinds, has) {
				kinds = append(kinds, callKind{name: name, file: file})
			}
		}
	}
	return kinds
}

// spec returns the plugin of a kind, for the groups bad-*.
func (k *callKind) spec(t *testing.T) plugins.Spec {
	s := plugins.Spec{
		Name: "hostile", Wasm: read(t, k.file), Groups: []string{"bad-*"}, Instances: 2,
		Cooldown: time.Nanosecond, // a suspended plugin does no harm
		// A start may take longer than a second while all others run.
		InitTimeout: time.Minute, InitFuel: plugins.DefaultInitFuel,
	}
	for _, g := range plugins.Grants {
		if g != plugins.GrantTick || k.hook == plugins.OnTick {
			s.Grants = append(s.Grants, g)
		}
	}
	if k.change != nil {
		k.change(&s)
	}
	return s
}

func (k *callKind) body() []byte {
	return fmt.Appendf(nil, `{"pad":"%s","a":[{"b":["x","y"]}]}`, strings.Repeat("x", k.payload))
}

// TestHostileCalls bounds what each kind of hostile calls costs: the time and the memory of a call, how late events of
// other groups are meanwhile, and the memory that is held afterwards.
func TestHostileCalls(t *testing.T) {
	quietNode := startNode(t, plugins.Options{})
	t.Logf("without a hostile plugin: late by %.1f ms",
		milliseconds(quietNode.beside(t, func() {}, during(100*time.Millisecond))))
	quietNode.close(t)
	for _, k := range allCallKinds(t) {
		t.Run(k.name, func(t *testing.T) {
			spec := k.spec(t)
			call, memory := k.measureCall(t, spec)
			before := held()
			gap, pause, server := time.Hour, time.Hour, int64(0)
			for try := 0; try < attempts && max(gap, pause) > maxGap; try++ {
				g, p, m := k.measureGap(t, spec)
				gap, pause, server = min(gap, g), min(pause, p), max(server, m)
			}
			after := held()
			t.Logf("call %s: %.1f ms, %.1f MiB; others late by %.1f ms; collections and health %.1f ms; "+
				"%d MiB in the server, %d MiB held", k.name,
				milliseconds(call), float64(memory)/(1<<20), milliseconds(gap), milliseconds(pause),
				server>>20, (after-before)>>20)
			if call > maxCall {
				t.Errorf("a call takes %v", call)
			}
			if memory > plugins.DefaultMemory {
				t.Errorf("an instance has %d bytes", memory)
			}
			if gap > maxGap {
				t.Errorf("events of other groups are late by %v", gap)
			}
			if pause > maxGap {
				t.Errorf("a collection or a reading of health takes %v", pause)
			}
			if server > maxServerCalls {
				t.Errorf("the server needs %d bytes meanwhile", server)
			}
			if after-before > maxHeld {
				t.Errorf("%d bytes are held afterwards", after-before)
			}
		})
	}
}

// measureCall returns the shortest of three calls, and the memory of the instance.
func (k *callKind) measureCall(t *testing.T, spec plugins.Spec) (call time.Duration, memory uint64) {
	t.Helper()
	trial, err := plugins.Try(context.Background(), plugins.Options{Logger: quiet}, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer trial.Close()
	text, class := string(k.body()), uint8(3)
	sample := plugins.Sample{Hook: plugins.OnEvent, Group: "bad-1", Text: &text}
	switch k.hook {
	case plugins.OnClass:
		sample.Hook, sample.Class = k.hook, &class
	case plugins.OnSubscribe:
		sample = plugins.Sample{Hook: k.hook, Group: "bad-1"}
	case plugins.OnTick:
		sample = plugins.Sample{Hook: k.hook}
	case plugins.OnConnect, plugins.OnMessage, plugins.OnClose, plugins.OnAlarm:
		return k.measureVisit(t, spec)
	}
	call = time.Hour
	for range attempts {
		trace := trial.Run(&sample)
		call, memory = min(call, trace.Duration), max(memory, trace.Memory)
	}
	return call, memory
}

// measureGap returns how late events of other groups are while hostile events keep all instances busy, and the
// longest time of a garbage collection, which stops every guest, and of a reading of health, and the memory that the
// server needs in addition.
func (k *callKind) measureGap(t *testing.T, spec plugins.Spec) (gap, pause time.Duration, server int64) {
	t.Helper()
	before := resident()
	spec.Timeout = plugins.DefaultTimeout // without the limit of fuel that the default has, too
	n := startNode(t, plugins.Options{}, spec)
	defer n.close(t)
	n.classes = max(1, k.classes)
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	if k.hook == plugins.OnSubscribe {
		for c := range 4 {
			clients.Go(func() {
				for ctx.Err() == nil {
					_, _ = n.lanes.Classify(ctx, relay.Identity{ID: fmt.Sprint(c)}, fmt.Sprint("bad-", c))
				}
			})
		}
	}
	if k.ofClients() {
		for range clientsOfHostile {
			clients.Go(func() {
				for ctx.Err() == nil {
					k.visit(ctx, n.pipeline)
				}
			})
		}
	}
	body := k.body()
	attack := func() {
		server = max(server, resident()-before)
		if k.ofClients() || n.lanes.Stats().Queued >= maxQueued {
			return
		}
		for g := range 4 {
			text := append(body[:len(body):len(body)], "  "[:g%2]...) // of odd and even length
			n.lanes.Intercept([]relay.Event{{Group: fmt.Sprint("bad-", g), Text: text, Sent: time.Now()}})
		}
	}
	short, long := during(100*time.Millisecond), during(time.Minute)
	calls := func() uint64 { return n.pipeline.Health()[1].Calls } // that have ended
	gap = n.beside(t, attack, func() bool { return short() && (calls() > 0 || long()) })
	if calls() == 0 {
		t.Error("no call ends")
	}
	paused := make(chan struct{})
	go func() {
		defer close(paused)
		for range 2 {
			for _, f := range []func(){runtime.GC, func() { n.pipeline.Health() }, func() { n.lanes.Queues() }} {
				began := time.Now()
				f()
				pause = max(pause, time.Since(began))
			}
		}
	}()
	n.beside(t, attack, func() bool {
		select {
		case <-paused:
			return true
		default:
			return false
		}
	})
	return gap, pause, server
}

// held returns the bytes that the Go runtime holds after two collections: one leaves the contents of pools.
func held() int64 {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
