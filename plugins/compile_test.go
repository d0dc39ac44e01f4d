package plugins

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// compilerArgument makes the test binary a compiler.
const compilerArgument = "compile-plugin"

// child returns a compiler that runs the test binary.
func child(t testing.TB, l Limits) *ChildCompiler {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &ChildCompiler{Command: []string{name, compilerArgument}, Limits: func() Limits { return l }}
}

// needMachineCode skips a test of machine code where this process can only interpret.
func needMachineCode(t *testing.T) {
	t.Helper()
	if CurrentEngine() == EngineInterpreter {
		t.Skip("this process interprets modules")
	}
}

// leb encodes an unsigned number as WebAssembly does.
func leb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// section encodes a section of a module.
func section(id byte, content ...[]byte) []byte {
	body := bytes.Join(content, nil)
	return slices.Concat([]byte{id}, leb(len(body)), body)
}

// vector encodes a vector of equal items.
func vector(n int, item ...byte) []byte { return append(leb(n), bytes.Repeat(item, n)...) }

// hostileModule returns a module with the given function bodies, after the types. All functions have type 0.
func hostileModule(types [][]byte, bodies ...[]byte) []byte {
	code := [][]byte{leb(len(bodies))}
	for _, b := range bodies {
		code = append(code, leb(len(b)), b)
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, leb(len(types)), bytes.Join(types, nil)),
		section(3, vector(len(bodies), 0)),
		section(10, code...))
}

var noType = []byte{0x60, 0, 0}

// passing returns the type of a function that takes and returns n numbers.
func passing(n int) []byte {
	return slices.Concat([]byte{0x60}, vector(n, 0x7f), vector(n, 0x7f))
}

// localsInLoops sets many locals in the innermost of many nested loops.
func localsInLoops(locals, loops int) []byte {
	b := slices.Concat([]byte{1}, leb(locals), []byte{0x7f})
	b = append(b, bytes.Repeat([]byte{0x03, 0x40}, loops)...)
	for l := range locals {
		b = slices.Concat(b, []byte{0x20}, leb(l), []byte{0x41, 1, 0x6a, 0x21}, leb(l))
	}
	for range loops {
		b = append(b, 0x20, 0, 0x0d, 0, 0x0b) // again, if the first local is not 0
	}
	return hostileModule([][]byte{noType}, append(b, 0x0b))
}

// wideBranches has a br_table with many targets that passes many values.
func wideBranches(targets, values int) []byte {
	b := []byte{0, 0x02, 1} // block of type 1
	for range values {
		b = append(b, 0x41, 1)
	}
	b = append(b, 0x41, 0, 0x0e)
	b = append(b, vector(targets, 0)...)
	b = append(b, 0, 0x0b)
	b = append(b, bytes.Repeat([]byte{0x1a}, values)...)
	b = append(b, 0x0b)
	resulting := slices.Concat([]byte{0x60, 0}, vector(values, 0x7f))
	return hostileModule([][]byte{noType, resulting}, b)
}

// longResults has functions that pass on long lists of results.
func longResults(functions, values, calls int) []byte {
	b := []byte{0}
	for v := range values {
		b = slices.Concat(b, []byte{0x20}, leb(v))
	}
	for range calls {
		b = append(b, 0x10, 0)
	}
	b = append(b, 0x0b)
	return hostileModule([][]byte{passing(values)}, slices.Repeat([][]byte{b}, functions)...)
}

// deepBlocks has deeply nested blocks.
func deepBlocks(depth int) []byte {
	b := []byte{0}
	b = append(b, bytes.Repeat([]byte{0x02, 0x40}, depth)...)
	b = append(b, bytes.Repeat([]byte{0x0b}, depth+1)...)
	return hostileModule([][]byte{noType}, b)
}

// liveValues keeps many values alive over many conditionals.
func liveValues(values, conditionals int) []byte {
	b := slices.Concat([]byte{1}, leb(values), []byte{0x7f})
	for v := range values {
		b = slices.Concat(b, []byte{0x20}, leb(v), []byte{0x41, 3, 0x6a})
	}
	for range conditionals {
		b = append(b, 0x41, 1, 0x04, 0x40, 0x0b)
	}
	b = append(b, bytes.Repeat([]byte{0x1a}, values)...)
	return hostileModule([][]byte{noType}, append(b, 0x0b))
}

// longName exports a function under a name of n bytes.
func longName(n int) []byte {
	m := hostileModule([][]byte{noType}, []byte{0, 0x0b})
	at := bytes.Index(m, section(10, []byte{1, 2, 0, 0x0b}))
	return slices.Concat(m[:at], section(7, leb(1), leb(n), bytes.Repeat([]byte{'n'}, n), []byte{0, 0}), m[at:])
}

func TestChildKeepsItsLimits(t *testing.T) {
	needMachineCode(t)
	limits := Limits{CPU: time.Second, Memory: 192 << 20}
	for _, c := range []struct {
		name string
		wasm []byte
		want string // of the error; "" if the module may be compiled
	}{
		{"many locals in many loops", localsInLoops(2000, 1000), "raise the"},
		{"a branch table with many values", wideBranches(100_000, 900), "raise the"},
		{"long results", longResults(60, 900, 200), "raise the"},
		{"deep blocks", deepBlocks(10_000), ""},
		{"many live values", liveValues(9000, 9000), "raise the"},
		{"a long name", longName(8 << 20), ""},
		{"invalid", hostileModule([][]byte{noType}, []byte{0, 0x6a, 0x0b}), "invalid function"},
		{"no module", []byte("text"), "magic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			began := time.Now()
			err := child(t, limits).Compile(context.Background(), dir, c.wasm)
			t.Logf("%d bytes: %v, %v", len(c.wasm), time.Since(began), err)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if files, _ := filepath.Glob(filepath.Join(dir, "*", "*")); (err == nil) != (len(files) == 1) {
				t.Errorf("the directory has the files %q", files)
			}
		})
	}
}
