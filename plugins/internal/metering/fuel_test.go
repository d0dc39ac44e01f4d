package metering_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// fuelModule instantiates testdata/fuel.wasm, metered.
func fuelModule(t testing.TB, o metering.Options) (api.Module, *host) {
	t.Helper()
	wasm, err := os.ReadFile("testdata/fuel.wasm")
	if err != nil {
		t.Fatal(err)
	}
	metered, err := metering.Rewrite(wasm, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	t.Cleanup(func() { r.Close(ctx) })
	h := newHost(t, r)
	m, err := r.InstantiateWithConfig(ctx, metered, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	return m, h
}

func TestCosts(t *testing.T) {
	m, h := fuelModule(t, metering.Options{InitialFuel: 1000})
	spend := func(budget int64, f string, args ...uint64) (float64, error) {
		h.start(m, budget)
		_, err := m.ExportedFunction(f).Call(context.Background(), args...)
		return float64(budget) - float64(h.left(m))/metering.Unit, err
	}
	for _, c := range []struct {
		f    string
		arg  uint64
		want float64
	}{
		{"leaf", 0, 1},
		{"caller", 0, 2 + 4.0/64}, // with the rest of four instructions
		{"loop", 1, 2},            // entry and one round
		{"loop", 1000, 1001},      //
		{"straight", 0, 1 + 4},    // 256 additions
		{"fill", 0, 2},
		{"fill", 16, 3},
		{"fill", 65536, 2 + 4096},
		{"grow", 0, 2},
		{"grow", 1, 2 + 2048},
		{"grow", 100_000, 2},    // fails, and costs nothing
		{"fill", 2049, 2 + 128}, // in two chunks
		{"recurse", 0, 1 + 10.0/64},
		{"recurse", 100, 101 * (1 + 10.0/64)},
	} {
		if got, err := spend(1<<40, c.f, c.arg); err != nil || got != c.want {
			t.Errorf("%s(%d) costs %v (%v), want %v", c.f, c.arg, got, err, c.want)
		}
	}

	// The budget is exact: a call succeeds with its peak of fuel, and fails with one unit less.
	if _, err := spend(1001, "loop", 1000); err != nil {
		t.Errorf("with the fuel it needs, the loop ends with %v", err)
	}
	if got, err := spend(1000, "loop", 1000); !errors.Is(err, errSpent) || got != 1001 {
		t.Errorf("with one unit less it spends %v and ends with %v", got, err)
	}

	// The stack is bounded whatever the fuel, and free again after the recursion.
	if _, err := spend(1<<30, "recurse", 1_000_000); !errors.Is(err, errOverflow) {
		t.Errorf("a recursion of a million frames ends with %v", err)
	}
	if _, err := spend(1<<30, "recurse", 100_000); err != nil {
		t.Errorf("a recursion of 100,000 frames: %v", err)
	}
	if got, want := counterOf(m).Get()&(1<<24-1), uint64(metering.NewCounter(0)); got != want {
		t.Errorf("%#x parts of the stack are free after a recursion, want %#x", got, want)
	}
}

func TestStartFunction(t *testing.T) {
	m, _ := fuelModule(t, metering.Options{InitialFuel: 1000})
	if got := m.ExportedGlobal("started").Get(); got != 1 {
		t.Error("the start function did not run at instantiation")
	}
	m, _ = fuelModule(t, metering.Options{InitialFuel: 1000, ExportStart: true})
	if got := m.ExportedGlobal("started").Get(); got != 0 {
		t.Error("the start function ran at instantiation")
	}
	if _, err := m.ExportedFunction(metering.StartExport).
		Call(context.Background()); err != nil ||
		m.ExportedGlobal("started").Get() != 1 {
		t.Errorf("the exported start function does not start: %v", err)
	}
}

func TestTableCap(t *testing.T) {
	m, _ := fuelModule(t, metering.Options{InitialFuel: 1 << 40, MaxTableElements: 100})
	for by, want := range map[uint64]int32{50: 10, 1000: -1} {
		got, err := m.ExportedFunction("table_grow").Call(context.Background(), by)
		if err != nil || int32(got[0]) != want {
			t.Errorf("growing the table by %d gives %v (%v), want %d", by, got, err, want)
		}
	}
}

func TestMeteredTwice(t *testing.T) {
	wasm, err := os.ReadFile("testdata/fuel.wasm")
	if err != nil {
		t.Fatal(err)
	}
	once, err := metering.Rewrite(wasm, metering.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := metering.Rewrite(once, metering.Options{}); err == nil || errors.Is(err, metering.ErrMalformed) {
		t.Errorf("a metered module is metered again: %v", err)
	}
}

// BenchmarkOverhead compares loops before and after rewriting.
func BenchmarkOverhead(b *testing.B) {
	wasm, err := os.ReadFile("testdata/fuel.wasm")
	if err != nil {
		b.Fatal(err)
	}
	metered, err := metering.Rewrite(wasm, metering.Options{InitialFuel: 1 << 60})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for _, f := range []string{"leaf", "caller", "loop", "scan", "straight", "recurse"} {
		for name, module := range map[string][]byte{"plain": wasm, "metered": metered} {
			b.Run(f+"/"+name, func(b *testing.B) {
				r := wazero.NewRuntime(ctx)
				defer r.Close(ctx)
				newHost(b, r).reserve = 1 << 60
				m, err := r.Instantiate(ctx, module)
				if err != nil {
					b.Fatal(err)
				}
				fn := m.ExportedFunction(f)
				stack := []uint64{0}
				for b.Loop() {
					stack[0] = 1000
					if err := fn.CallWithStack(ctx, stack); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRewrite measures the rewriter on the largest module of the specification's suite.
func BenchmarkRewrite(b *testing.B) {
	var largest []byte
	for _, m := range specModules(b, 1<<24) {
		if len(m.wasm) > len(largest) {
			largest = m.wasm
		}
	}
	b.SetBytes(int64(len(largest)))
	for b.Loop() {
		if _, err := metering.Rewrite(largest, metering.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
