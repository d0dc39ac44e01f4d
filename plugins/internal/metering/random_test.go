package metering_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// TestRandomPrograms generates programs with every control construct, nested at random, and compares their results
// before and after rewriting. The programs always end, so the test also reveals a difference in fuel between two runs
// and a charge that is not returned.
func TestRandomPrograms(t *testing.T) {
	ctx := context.Background()
	programs := 200
	if testing.Short() {
		programs = 50
	}
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	h := newHost(t, r)
	for seed := range uint64(programs) {
		g := &generator{rnd: rand.New(rand.NewPCG(seed, 7))}
		wasm := g.module()
		metered, err := metering.Rewrite(wasm, metering.Options{InitialFuel: 1 << 40})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		before, err := r.CompileModule(ctx, wasm)
		if err != nil {
			t.Fatalf("seed %d: the generator made an invalid module: %v", seed, err)
		}
		after, err := r.CompileModule(ctx, metered)
		if err != nil {
			t.Fatalf("seed %d: the rewritten module is invalid: %v", seed, err)
		}
		run := func(m wazero.CompiledModule, a, b uint64) ([]uint64, int64) {
			in, err := r.InstantiateModule(ctx, m, wazero.NewModuleConfig().WithName(""))
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			defer in.Close(ctx)
			const budget = 1 << 26
			metered := in.ExportedGlobal(metering.CounterGlobal) != nil
			if metered {
				h.start(in, budget)
			}
			got, err := in.ExportedFunction("f").Call(ctx, a, b)
			if err != nil {
				t.Fatalf("seed %d: f(%d, %d): %v", seed, a, b, err)
			}
			if metered {
				return got, budget - h.left(in)/metering.Unit
			}
			return got, 0
		}
		for range 5 {
			a, b := g.rnd.Uint64(), g.rnd.Uint64N(8)
			want, _ := run(before, a, b)
			got, spent := run(after, a, b)
			again, spentAgain := run(after, a, b)
			if !slices.Equal(got, want) || !slices.Equal(again, want) {
				t.Fatalf("seed %d: f(%d, %d) is %v, then %v instead of %v", seed, a, b, got, again, want)
			}
			if spent != spentAgain || spent < 1 || spent > 1<<24 {
				t.Fatalf("seed %d: f(%d, %d) costs %d units, then %d", seed, a, b, spent, spentAgain)
			}
		}
		before.Close(ctx)
		after.Close(ctx)
	}
}

// generator writes modules of a few functions (i64, i64) -> (i64, i64). Each function calls only later ones.
type generator struct {
	rnd *rand.Rand
	b   []byte
	fn  int
	// wild lets functions call any function, and use long bulk operations. Such programs need not end.
	wild   bool
	labels []bool // enclosing constructs, outermost first; true where a branch goes to the end and takes no values
	budget int
}

const functions = 4

func (g *generator) op(bytes ...byte) { g.b = append(g.b, bytes...) }

func (g *generator) module() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) {
		out = append(append(out, id), leb(len(body))...)
		out = append(out, body...)
	}
	section(1, []byte{1, 0x60, 2, 0x7e, 0x7e, 2, 0x7e, 0x7e})
	section(3, []byte{functions, 0, 0, 0, 0})
	section(5, []byte{1, 0, 1})
	section(7, []byte{1, 1, 'f', 0, 0})
	code := []byte{functions}
	for g.fn = range functions {
		g.b, g.labels, g.budget = nil, []bool{false}, 120
		g.op(1, 6, 0x7e) // six locals beside the two parameters
		for range 6 {
			g.statement(0)
		}
		g.expression(3)
		g.op(0x20, 2, 0x0b)
		code = append(append(code, leb(len(g.b))...), g.b...)
	}
	section(10, code)
	return out
}

func leb(n int) []byte {
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// expression writes code that leaves an i64 on the operand stack.
func (g *generator) expression(depth int) {
	switch n := g.rnd.IntN(8); {
	case depth == 0 || n < 2:
		g.op(0x20, byte(g.rnd.IntN(5)))
	case n == 2:
		g.op(0x42, byte(g.rnd.IntN(64)))
	case n == 3: // if with a result
		g.expression(depth - 1)
		g.op(0x50, 0x04, 0x7e)
		g.labels = append(g.labels, false)
		g.expression(depth - 1)
		g.op(0x05)
		g.expression(depth - 1)
		g.op(0x0b)
		g.labels = g.labels[:len(g.labels)-1]
	case n == 4: // a memory operation whose effect is seen
		g.op(0x41, 8)
		g.expression(depth - 1)
		g.op(0x37, 3, 0, 0x41, 8, 0x29, 3, 0)
	case n == 5: // memory.fill of a few bytes, and what it left
		g.op(0x41, 16)
		g.expression(depth - 1)
		g.op(0xa7, 0x41, byte(g.rnd.IntN(20)), 0xfc, 11, 0, 0x41, 16, 0x29, 3, 0)
	default:
		g.expression(depth - 1)
		g.expression(depth - 1)
		g.op([]byte{0x7c, 0x7d, 0x7e, 0x83, 0x84, 0x85}[g.rnd.IntN(6)])
	}
}

// statement writes code that does not change the operand stack.
func (g *generator) statement(depth int) {
	if g.budget--; g.budget < 0 {
		return
	}
	some := func() {
		for range 1 + g.rnd.IntN(4) {
			g.statement(depth + 1)
		}
	}
	nested := func(end bool, inside func()) {
		g.labels = append(g.labels, end)
		inside()
		g.labels = g.labels[:len(g.labels)-1]
		g.op(0x0b)
	}
	set := func() { g.op(0x21, byte(g.rnd.IntN(5))) }
	n := g.rnd.IntN(13)
	if depth > 3 {
		n = 0
	}
	switch n {
	case 2, 3:
		g.op(0x02, 0x40)
		nested(true, func() { some(); g.branchIf(); some() })
	case 4:
		g.expression(2)
		g.op(0x50, 0x04, 0x40)
		nested(true, func() {
			some()
			if g.rnd.IntN(2) == 0 {
				g.op(0x05)
				some()
			}
		})
	case 5: // a loop of up to three rounds; its counter is a local that nothing else sets
		if depth > 2 {
			return
		}
		counter := byte(5 + depth)
		g.op(0x42, byte(1+g.rnd.IntN(3)), 0x21, counter)
		g.op(0x03, 0x40)
		nested(false, func() {
			some()
			g.op(0x20, counter, 0x42, 1, 0x7d, 0x22, counter, 0x50, 0x45, 0x0d, 0)
		})
	case 6: // a call
		first := g.fn + 1
		if g.wild {
			first = 0
		}
		if first < functions {
			g.expression(2)
			g.expression(2)
			g.op(0x10, byte(first+g.rnd.IntN(functions-first)))
			set()
			set()
		}
	case 7: // return, with values below those it takes, and dead code behind
		g.expression(1)
		g.op(0x50, 0x04, 0x40)
		nested(true, func() {
			g.op(0x42, 7)
			g.expression(1)
			g.expression(1)
			g.op(0x0f)
			some()
		})
	case 8: // br out of the function, with its values
		g.expression(1)
		g.op(0x50, 0x04, 0x40)
		nested(true, func() {
			g.expression(1)
			g.expression(1)
			g.op(0x0c, byte(len(g.labels)-1))
		})
	case 9: // br_table to blocks
		targets := g.targets()
		if len(targets) == 0 {
			return
		}
		g.expression(1)
		g.op(0x42, 3, 0x83, 0xa7, 0x0e, 2)
		for range 3 {
			g.op(targets[g.rnd.IntN(len(targets))])
		}
	case 10: // long straight code
		rounds := 30
		if g.wild {
			rounds = 1000
		}
		for range rounds {
			g.expression(1)
			set()
		}
	case 11: // a bulk operation within the memory of 64 KiB
		if !g.wild {
			return
		}
		g.op(0x41, byte(g.rnd.IntN(64)), 0x41, byte(g.rnd.IntN(64)))
		g.expression(1)
		g.op(0xa7, 0x41, 0xff, 0xff, 0x01, 0x71) // and 32767
		g.op([][]byte{{0xfc, 10, 0, 0}, {0xfc, 11, 0}}[g.rnd.IntN(2)]...)
	default:
		g.expression(3)
		set()
	}
}

func (g *generator) targets() (depths []byte) {
	for i, end := range g.labels {
		if end {
			depths = append(depths, byte(len(g.labels)-1-i))
		}
	}
	return depths
}

func (g *generator) branchIf() {
	if targets := g.targets(); len(targets) > 0 {
		g.expression(1)
		g.op(0x50, 0x0d, targets[g.rnd.IntN(len(targets))])
	}
}
