package metering_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// TestSlicesOfRandomPrograms: on every way through a random program, a scheduling point comes before 1,500 units are
// executed. The ways are followed in the rewritten code. Then the program runs without any fuel, so that each check
// calls the host, and the counter shows what was charged since the check before.
func TestSlicesOfRandomPrograms(t *testing.T) {
	ctx := context.Background()
	programs := 60
	if testing.Short() {
		programs = 10
	}
	const slack = (metering.SliceUnits - metering.RefillUnits) * metering.Unit
	longest, checks := int64(0), 0
	for seed := range uint64(programs) {
		g := &generator{rnd: rand.New(rand.NewPCG(seed, 11)), wild: true}
		metered, err := metering.Rewrite(g.module(), metering.Options{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		// Charges and checks are instructions, too: hence a quarter more than what the rewriter counts.
		paths, err := metering.FindPaths(metered)
		if err != nil || paths.Uncharged > 2*metering.Unit || paths.Unchecked > slack*5/4 {
			t.Errorf("seed %d: ways of %+v 64ths (%v)", seed, paths, err)
		}
		r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
		h := newHost(t, r)
		h.refill = 0
		h.onSlice = func(c metering.Counter) { longest = max(longest, -c.Fuel()) }
		m, err := r.InstantiateWithConfig(ctx, metered, wazero.NewModuleConfig())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for range 2 {
			h.start(m, 20_000)
			_, err = m.ExportedFunction("f").Call(ctx, g.rnd.Uint64(), g.rnd.Uint64N(8))
			if err != nil && !errors.Is(err, errSpent) && !strings.Contains(err.Error(), "stack overflow") {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		checks += h.slices
		r.Close(ctx)
	}
	t.Logf("%d checks, at most %d units between two, of %d", checks, longest/metering.Unit, slack/metering.Unit)
	if longest > slack || longest < 30*metering.Unit || checks < 10_000 {
		t.Errorf("%d checks, at most %d units between two", checks, longest/metering.Unit)
	}
}

// TestBulkMemoryInChunks compares long bulk operations with the same operations in Go, around the limits of memory and
// segments and with all kinds of overlap.
func TestBulkMemoryInChunks(t *testing.T) {
	const memory, segment = 2 << 16, 10_000
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) { out = append(append(append(out, id), leb(len(body))...), body...) }
	section(1, []byte{2, 0x60, 3, 0x7f, 0x7f, 0x7f, 0, 0x60, 0, 0})
	section(3, []byte{4, 0, 0, 0, 1})
	section(5, []byte{1, 0, memory >> 16})
	section(7, []byte("\x05\x04fill\x00\x00\x04copy\x00\x01\x04init\x00\x02\x04drop\x00\x03\x01m\x02\x00"))
	section(12, []byte{1})
	args := "\x00\x20\x00\x20\x01\x20\x02\xfc"
	section(10, []byte("\x04\x0b"+args+"\x0b\x00\x0b"+"\x0c"+args+"\x0a\x00\x00\x0b"+"\x0c"+args+"\x08\x00\x00\x0b"+
		"\x05\x00\xfc\x09\x00\x0b"))
	data := make([]byte, segment)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	section(11, append(append([]byte{1, 1}, leb(segment)...), data...))

	ctx := context.Background()
	metered, err := metering.Rewrite(out, metering.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	h := newHost(t, r)
	worst := int64(0)
	h.onSlice = func(c metering.Counter) { worst = max(worst, -c.Fuel()) }
	m, err := r.Instantiate(ctx, metered)
	if err != nil {
		t.Fatal(err)
	}
	mem, _ := m.Memory().Read(0, memory)
	near := func(limit int) uint32 { // often close to a limit, and sometimes beyond
		return uint32([]int{rnd.IntN(limit), rnd.IntN(3), limit - rnd.IntN(5000), limit + rnd.IntN(3) - 1, -1 - rnd.IntN(9)}[rnd.IntN(5)])
	}
	want := make([]byte, memory)
	for range 3000 {
		for i := range 64 {
			mem[rnd.IntN(memory)] = byte(i)
		}
		copy(want, mem)
		to, from, n := near(memory), near(memory), near([]int{3000, 6000, 100_000, memory}[rnd.IntN(4)])
		name := []string{"fill", "copy", "init"}[rnd.IntN(3)]
		if name == "init" {
			from = near(segment)
		}
		inside := func(at uint32, size int) bool { return uint64(at)+uint64(n) <= uint64(size) }
		fits := inside(to, memory)
		switch {
		case name == "copy" && fits && inside(from, memory):
			copy(want[to:], want[from:from+n])
		case name == "init" && fits && inside(from, segment):
			copy(want[to:], data[from:from+n])
		case name == "fill" && fits:
			copy(want[to:to+n], bytes.Repeat([]byte{byte(from)}, int(n)))
		default:
			fits = false
		}
		h.start(m, 1<<30)
		_, err := m.ExportedFunction(name).Call(ctx, uint64(to), uint64(from), uint64(n))
		call := fmt.Sprintf("%s(%#x, %#x, %#x)", name, to, from, n)
		if (err == nil) != fits || err != nil && !bytes.Contains([]byte(err.Error()), []byte("out of bounds memory access")) {
			t.Fatalf("%s: %v, want success %v", call, err, fits)
		}
		if !bytes.Equal(mem, want) {
			t.Fatalf("%s leaves other bytes", call)
		}
	}
	if slack := int64(metering.SliceUnits-metering.RefillUnits) * metering.Unit; worst > slack {
		t.Errorf("%d units between two checks", worst/metering.Unit)
	}
	if _, err := m.ExportedFunction("drop").Call(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ExportedFunction("init").Call(ctx, 0, 0, 5000); err == nil {
		t.Error("a dropped segment can be read")
	}
}

// TestStackOfVectors: vectors that a function only passes on take their part of the stack, too.
func TestStackOfVectors(t *testing.T) {
	const params = 100
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) { out = append(append(append(out, id), leb(len(body))...), body...) }
	section(1, slices.Concat([]byte{2, 0x60, params}, bytes.Repeat([]byte{0x7b}, params), []byte{0, 0x60, 0, 0}))
	section(3, []byte{2, 0, 1})
	section(6, []byte{1, 0x7b, 0, 0xfd, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b})
	section(7, []byte{1, 1, 'f', 0, 1})
	recursive, first := []byte{0}, []byte{0}
	for i := range params {
		recursive = append(recursive, 0x20, byte(i))
		first = append(first, 0x23, 0)
	}
	recursive, first = append(recursive, 0x10, 0, 0x0b), append(first, 0x10, 0, 0x0b)
	code := []byte{2}
	for _, f := range [][]byte{recursive, first} {
		code = append(append(code, leb(len(f))...), f...)
	}
	section(10, code)

	ctx := context.Background()
	metered, err := metering.Rewrite(out, metering.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	h := newHost(t, r)
	h.refill = 0
	deepest := 0
	h.onSlice = func(c metering.Counter) {
		if !c.StackOverflow() {
			deepest = metering.StackBytes - 16*int(c&(1<<24-1))
		}
		if h.slices == 3 {
			panic(errSpent)
		}
	}
	m, err := r.Instantiate(ctx, metered)
	if err != nil {
		t.Fatal(err)
	}
	h.start(m, 1000)
	_, _ = m.ExportedFunction("f").Call(ctx)
	if least := 5 * 16 * params; deepest < least {
		t.Errorf("three calls with %d vectors take %d bytes of the stack, less than %d", params, deepest, least)
	}
}

// TestSelectBesideVectors: the type of a select is read in functions with vectors, too.
func TestSelectBesideVectors(t *testing.T) {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) { out = append(append(append(out, id), leb(len(body))...), body...) }
	section(1, []byte{1, 0x60, 0, 1, 0x7f})
	section(3, []byte{1, 0})
	section(7, []byte{1, 1, 'f', 0, 0})
	code := slices.Concat([]byte{0, 0x41, 0, 0xfd, 0x0f, 0x1a}, // i8x16.splat, drop
		bytes.Repeat([]byte{0x41, 7, 0x41, 8, 0x41, 1, 0x1c, 1, 0x7f, 0x1a}, 100),
		[]byte{0x41, 7, 0x41, 8, 0x41, 1, 0x1c, 1, 0x7f, 0x0b})
	section(10, slices.Concat([]byte{1}, leb(len(code)), code))
	metered, err := metering.Rewrite(out, metering.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	h := newHost(t, r)
	m, err := r.Instantiate(ctx, metered)
	if err != nil {
		t.Fatal(err)
	}
	h.start(m, 1000)
	if got, err := m.ExportedFunction("f").Call(ctx); err != nil || got[0] != 7 {
		t.Errorf("%v, %v, want 7", got, err)
	}
}
