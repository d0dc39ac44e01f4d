//go:build !race

// The race detector needs more memory than the compiler's limits allow.

package hostile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

const (
	// The limits of a compilation, and what may come on top: the kernel counts in ticks, and the memory limit leaves out
	// the program itself.
	maxLoadCPU    = plugins.DefaultCompileCPU + time.Second
	maxLoadMemory = plugins.DefaultCompileMemory + 64<<20
	maxLoadTime   = plugins.DefaultCompileTime + 10*time.Second
	// maxServerMemory bounds what the server needs meanwhile, in bytes.
	maxServerMemory = 192 << 20
	// maxServerCPU bounds the processor time of the server, which reads and checks the module, and starts instances.
	maxServerCPU = 3 * time.Second
	// maxLoadError bounds the text of the error, which logs and the admin API show, in bytes.
	maxLoadError = 6 << 10
)

// loadKind is a kind of modules that are expensive to load.
type loadKind struct {
	name string
	wasm func() []byte
	want string // a part of the error; "": the module may be rejected or loaded
}

// fixed are kinds of the sizes that once took gigabytes or minutes, and others of the largest sizes.
var fixed = []loadKind{
	{"locals in loops, 7 KB", func() []byte { return LocalsInLoops(700, 250) }, ""},
	{"locals in loops, 16 KB", func() []byte { return LocalsInLoops(1500, 600) }, "too complex"},
	{"locals in loops, 250 KB", func() []byte { return LocalsInLoops(22_000, 8000) }, "too complex"},
	{"branch table of values, 104 KB", func() []byte { return WideBranches(100_000, 900) }, "too complex"},
	{"branch table, 100 KB", func() []byte { return WideBranches(100_000, 0) }, "too complex"},
	{"branch table, 1 MB", func() []byte { return WideBranches(1_000_000, 0) }, "too complex"},
	{"long results, 9 KB", func() []byte { return LongResults(9, 300, 50) }, ""},
	{"long results, 63 KB", func() []byte { return LongResults(60, 400, 50) }, ""},
	{"live values, 54 KB", func() []byte { return LiveValues(4500, 4500) }, "too complex"},
	{"deep blocks", func() []byte { return DeepBlocks(20_000) }, "more than 8192 blocks"},
	{"start loop", StartLoop, "the start function: out of fuel"},
	{"_initialize loop", file("testdata/initialize_spin.wasm"), "_initialize: out of fuel"},
	{"ev_init loop", file("../../testdata/hostile/init.wasm"), "ev_init: out of fuel"},
	{"memory beyond the limit", file("../../testdata/hostile/memory_huge.wasm"), "over limit of 512 pages"},
	{"memory of the limit", func() []byte { return Module{Pages: 512}.Wasm() }, ""},
	{"a table of 2^32 elements", file("../../testdata/hostile/table_huge.wasm"), "larger than the limit"},
	{"a large table", func() []byte { return ElementSegments(100_000, 100, 100_000) }, ""},
	{"10,000 tables", func() []byte { return ManyTables(10_000, 100_000) }, ""},
	{"200,000 element segments", func() []byte { return ElementSegments(1, 200_000, 1) }, ""},
	{"200,000 data segments", func() []byte { return DataSegments(200_000, 1) }, ""},
	{"a data segment of 15 MiB", func() []byte { return DataSegments(1, 15<<20) }, ""},
	{"300,000 functions", func() []byte { return ManyFunctions(300_000, 1) }, ""},
	{"functions of 50,000 locals", func() []byte { return ManyFunctions(5000, 50_000) }, ""},
	{"types of 1,000 parameters and results", func() []byte { return ManyTypes(5000, 1000) }, "more than 100000 parameters"},
	{"types of 100,000 parameters", func() []byte { return ManyTypes(49, 1000) }, ""},
	{"99,000 imports", func() []byte { return ManyImports(99_000) }, ""},
	{"9,000 unknown imports with names of 1,000 bytes", func() []byte { return LongImports(9000, 1000) }, "more imports"},
	{"an import with commands to a terminal", func() []byte {
		return Module{Imports: [][]byte{[]byte("\x03ev1\x05\x1b[2J\n\x00\x00")}}.Wasm()
	}, `"ev1.\x1b[2J\n"`},
	{"90,000 imports of 1,000 parameters", func() []byte { return WideImports(90_000, 1000) }, "984 more"},
	{"99,000 globals of vectors", func() []byte { return VectorGlobals(99_000) }, ""},
	{"90,000 manifests", func() []byte { return WithManifests(90_000, "{}") }, "two manifests"},
	{"a manifest for 9,000 unknown imports", func() []byte {
		return slices.Concat(LongImports(9000, 1000), section(0, []byte("\x12edgerelay.manifest"+`{"abi":"1.99"}`)))
	}, "ABI 1.99"},
	{"a deep manifest", func() []byte {
		return WithManifests(1, `{"config_schema":`+strings.Repeat(`{"items":`, 6500)+"{}"+strings.Repeat("}", 6501))
	}, "manifest"},
	{"99,000 exports", func() []byte { return ManyExports(99_000, 1) }, ""},
	{"99,000 element segments", func() []byte { return ElementSegments(100, 99_000, 1) }, ""},
	{"99,000 data segments", func() []byte { return DataSegments(99_000, 1) }, ""},
	{"99,000 functions with names", func() []byte { return WithName(ManyFunctions(99_000, 1), 99_000, 100) }, ""},
	{"a million types", func() []byte { return ManyTypes(1_000_000, 1) }, ""},
	{"500,000 exports", func() []byte { return ManyExports(500_000, 1) }, ""},
	{"500,000 imports", func() []byte { return ManyImports(500_000) }, ""},
	{"a name of 8 MB", func() []byte { return LongName(8 << 20) }, ""},
	{"names of 15 MB", func() []byte { return WithName(ManyFunctions(15, 1), 15, 1<<20) }, ""},
	{"15 MiB without meaning", func() []byte { return CustomSection(15 << 20) }, ""},
	{"beyond 16 MiB", func() []byte { return CustomSection(16 << 20) }, "more than 16777216"},
}

// growing are families by one parameter. The largest module of each that passes the first checks is compiled.
var growing = []struct {
	name string
	wasm func(n int) []byte
}{
	{"locals in loops", func(n int) []byte { return LocalsInLoops(8*n, n) }},
	{"branch table", func(n int) []byte { return WideBranches(n, 0) }},
	{"branch table of values", func(n int) []byte { return WideBranches(n, n/8) }},
	{"long results", func(n int) []byte { return LongResults(n, n, n) }},
	{"one long result", func(n int) []byte { return LongResults(1, min(n, 900), n) }},
	{"live values", func(n int) []byte { return LiveValues(n, n) }},
	{"deep blocks", DeepBlocks},
	{"globals across calls", func(n int) []byte { return GlobalsAcrossCalls(n, n) }},
	{"many functions", func(n int) []byte { return ManyFunctions(n, 100) }},
	{"straight code", repeated(0x20, 0, 0x1a)},
	{"calls", repeated(0x10, 0)},
	{"branches", repeated(0x20, 0, 0x0d, 0)},
	{"loops", repeated(0x03, 0x40, 0x0b)},
	{"conditionals", repeated(0x20, 0, 0x04, 0x7f, 0x41, 1, 0x05, 0x41, 2, 0x0b, 0x21, 0)},
	{"loads and stores", repeated(0x20, 0, 0x20, 0, 0x28, 2, 0, 0x36, 2, 0)},
	{"locals in conditionals", func(n int) []byte { return LocalsInConditionals(n/16+1, n/16+1, false) }},
	{"locals in nested conditionals", func(n int) []byte { return LocalsInConditionals(n/16+1, n/16+1, true) }},
	{"loops of values", func(n int) []byte { return LoopsOfValues(n, min(n, 900)) }},
	{"filling tables", func(n int) []byte { return WithTable(n, 0x41, 0, 0xd0, 0x70, 0x41, 0, 0xfc, 17, 0) }},
	{"elements of tables", func(n int) []byte { return WithTable(n, 0x41, 0, 0x41, 0, 0x25, 0, 0x26, 0) }},
	{"calls by a table", func(n int) []byte { return WithTable(n, 0x41, 0, 0x11, 0, 0) }},
	{"selections", repeated(0x20, 0, 0x20, 0, 0x20, 0, 0x1b, 0x21, 0)},
	{"bits", repeated(0x20, 0, 0x69, 0x67, 0x68, 0x21, 0)},
	{"roots", repeated(0x20, 0, 0xb7, 0x9f, 0x9c, 0x9b, 0x9d, 0xaa, 0x21, 0)},
	{"copies", repeated(0x20, 0, 0x20, 0, 0x20, 0, 0xfc, 10, 0, 0)},
	{"growing memory", repeated(0x20, 0, 0x40, 0, 0x21, 0)},
	{"divisions", repeated(0x20, 0, 0x20, 0, 0x6d, 0x21, 0)},
	{"conversions", repeated(0x20, 0, 0xb7, 0xaa, 0x21, 0)},
	{"saturating conversions", repeated(0x20, 0, 0xb8, 0xfc, 3, 0x21, 0)},
	{"vectors", repeated(append(append([]byte{0xfd, 12}, make([]byte, 16)...),
		append(append([]byte{0xfd, 12}, slices.Repeat([]byte{9}, 16)...),
			append(append([]byte{0xfd, 13}, slices.Repeat([]byte{17}, 16)...), 0x1a)...)...)...)},
	{"vector conversions", repeated(0x20, 0, 0xfd, 17, 0xfd, 0xfd, 1, 0xfd, 0xf8, 1, 0xfd, 0x62, 0x1a)},
}

func repeated(code ...byte) func(n int) []byte {
	return func(n int) []byte { return Repeated(n, code...) }
}

func file(name string) func() []byte {
	return func() []byte {
		wasm, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			panic(err)
		}
		return wasm
	}
}

// largest returns a module of a family that the first checks accept, and of which a twentieth more is too much.
func largest(wasm func(n int) []byte) []byte {
	rejects := func(n int) bool {
		out, err := metering.Rewrite(wasm(n), metering.Options{
			InitialFuel: 1000, ExportStart: true, MaxTableElements: 100_000, MaxPages: 512,
		})
		return err != nil || len(out) > 16<<20
	}
	half := 16
	for half < 1<<19 && !rejects(2*half) {
		half *= 2
	}
	const steps = 20
	more := sort.Search(steps, func(step int) bool { return rejects(half + half*(step+1)/steps) })
	return wasm(half + half*more/steps)
}

// loadKinds returns all kinds. In short mode, there are no modules that are just acceptable: some take seconds.
func loadKinds() []loadKind {
	kinds := slices.Clone(fixed)
	if testing.Short() {
		return kinds
	}
	for _, g := range growing {
		kinds = append(kinds, loadKind{g.name + ", as many as are accepted", func() []byte { return largest(g.wasm) }, ""})
	}
	return kinds
}

// TestHostileModules bounds what it costs to load each kind of hostile modules: the time and the memory of the
// compiler, the memory of the server, and how late events of other groups are meanwhile.
func TestHostileModules(t *testing.T) {
	if plugins.CurrentEngine() == plugins.EngineInterpreter {
		if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
			t.Fatal("this process interprets modules")
		}
		t.Skip("this process interprets modules")
	}
	for _, k := range loadKinds() {
		t.Run(k.name, func(t *testing.T) {
			wasm := k.wasm()
			var l load
			for try := 0; try == 0 || try < attempts && l.gap > maxGap; try++ {
				l = measureLoad(t, wasm)
			}
			t.Logf("load %s: %d KB: %.2f s and %d MiB to compile, %.2f s in all; %.2f s and %d MiB in the server; "+
				"others late by %.1f ms; %.150v", k.name, len(wasm)/1000, l.cpu.Seconds(), l.memory>>20,
				l.time.Seconds(), l.own.Seconds(), l.server>>20, milliseconds(l.gap), l.err)
			if (k.want != "" || l.err != nil) && (l.err == nil || !strings.Contains(l.err.Error(), k.want)) {
				t.Errorf("%v, want %q", l.err, k.want)
			}
			if l.cpu > maxLoadCPU || l.memory > maxLoadMemory || l.time > maxLoadTime || l.server > maxServerMemory ||
				l.own > maxServerCPU {
				t.Error("loading takes too much")
			}
			if l.gap > maxGap {
				t.Errorf("events of other groups are late by %v", l.gap)
			}
			if l.err != nil && len(l.err.Error()) > maxLoadError {
				t.Errorf("the error has %d bytes", len(l.err.Error()))
			}
		})
	}
}

// load is what it costs to load a module.
type load struct {
	cpu    time.Duration // of the compiler
	memory int64         // of the compiler
	time   time.Duration
	server int64         // memory in addition to what the server had before
	own    time.Duration // processor time of the server, with that of the events of other groups
	gap    time.Duration
	err    error
}

// measureLoad adds a module to a node's plugins, and removes it.
func measureLoad(t *testing.T, wasm []byte) (l load) {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	report := filepath.Join(dir, "report")
	n := startNode(t, plugins.Options{
		CacheDir: filepath.Join(dir, "cache"),
		Compiler: &plugins.ChildCompiler{Command: []string{name, measureArgument, report}},
	})
	defer n.close(t)
	if err := os.Remove(report); err != nil { // of the other plugin
		t.Fatal(err)
	}
	other := plugins.Spec{Name: "other", Wasm: read(t, "../../testdata/pass.wasm"), Groups: []string{"other"}}
	hostile := plugins.Spec{
		Name: "hostile", Wasm: wasm, Groups: []string{"bad-*"}, Instances: 2,
		InitTimeout: time.Minute, InitFuel: plugins.DefaultInitFuel,
	}
	before := held()
	loaded := make(chan error, 1)
	began, used := time.Now(), ownCPU(t)
	go func() { loaded <- n.lanes.Apply(context.Background(), []plugins.Spec{other, hostile}) }()
	l.gap = n.beside(t, func() { l.server = max(l.server, resident()-before) }, func() bool {
		select {
		case l.err = <-loaded:
			l.time, l.own = time.Since(began), ownCPU(t)-used
			return true
		default:
			return false
		}
	})
	text, err := os.ReadFile(report)
	if os.IsNotExist(err) {
		return l // rejected before it was compiled
	}
	var cpu int64
	if _, err = fmt.Sscan(string(text), &cpu, &l.memory); err != nil {
		t.Fatalf("the compiler's report %q: %v", text, err)
	}
	l.cpu = time.Duration(cpu) * time.Millisecond
	return l
}

// ownCPU returns the processor time that this process has used.
func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns the bytes that the Go runtime holds.
func resident() int64 {
	sample := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64() - sample[1].Value.Uint64())
}
