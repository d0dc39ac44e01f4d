package metering_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// oneFunction returns a module with a function (i32) -> () and other types of n parameters and of n results.
func oneFunction(n, locals int, code []byte) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) { out = append(append(append(out, id), leb(len(body))...), body...) }
	values := append(leb(n), bytes.Repeat([]byte{0x7f}, n)...)
	types := append([]byte{3, 0x60, 1, 0x7f, 0, 0x60, 0}, values...)
	types = append(append(append(types, 0x60), values...), values...)
	section(1, types)
	section(3, []byte{1, 0})
	section(5, []byte{1, 0, 1})
	body := append(append(append([]byte{1}, leb(locals)...), 0x7f), append(code, 0x0b)...)
	section(10, append(append([]byte{1}, leb(len(body))...), body...))
	return out
}

// repeat returns n copies of the code.
func repeat(n int, code ...byte) []byte { return bytes.Repeat(code, n) }

// TestExpensiveModules: small modules that would take the compiler gigabytes or minutes are refused at once.
func TestExpensiveModules(t *testing.T) {
	const values = 1000
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	var reads, table []byte
	for i := range values {
		reads = append(append(append(reads, 0x20), leb(i)...), 0x1a)
	}
	table = append([]byte{0x02, 0x40, 0x20, 0, 0x0e}, leb(100_000)...)
	table = append(append(table, repeat(100_001, 0)...), 0x0b)
	push, drop := repeat(values, 0x41, 1), repeat(values, 0x1a)
	for name, wasm := range map[string][]byte{
		"locals in nested loops": oneFunction(1, values, join(repeat(500, 0x03, 0x40), reads, repeat(500, 0x0b))),
		"branch targets":         oneFunction(1, 1, table),
		"values of branches": oneFunction(values, 1,
			join([]byte{0x02, 1}, push, repeat(5000, 0x20, 0, 0x0d, 0), []byte{0x0b}, drop)),
		"values of blocks": oneFunction(values, 1, join(push, repeat(1000, 0x02, 2), repeat(1000, 0x0b), drop)),
		"live values":      oneFunction(1, 1, join(push, repeat(6000, 0x20, 0, 0x04, 0x40, 0x0b), drop)),
		"branches":         oneFunction(1, 1, repeat(40_000, 0x20, 0, 0x0d, 0)),
		"loops":            oneFunction(1, 1, repeat(8000, 0x03, 0x40, 0x0b)),
		"copies":           oneFunction(1, 1, repeat(8000, 0x20, 0, 0x20, 0, 0x20, 0, 0xfc, 10, 0, 0)),
		"straight code":    oneFunction(1, 1, repeat(1_500_000, 0x20, 0, 0x1a)),
		"loads":            oneFunction(1, 1, repeat(60_000, 0x20, 0, 0x28, 2, 0, 0x1a)),
	} {
		_, err := metering.Rewrite(wasm, metering.Options{})
		if err == nil || !strings.Contains(err.Error(), "too complex") ||
			!strings.Contains(err.Error(), "or build with optimization") {
			t.Errorf("%s, %d bytes: %v", name, len(wasm), err)
		}
	}
}

func TestLongNames(t *testing.T) {
	long := strings.Repeat("\u00e4", 200) // two bytes each; 64 fit
	h := "\x00asm\x01\x00\x00\x00"
	name := string(leb(len(long))) + long
	names := "\x04name" + "\x00" + string(leb(len(name))) + name + // of the module
		"\x01" + string(leb(len(name)+2)) + "\x01\x00" + name // of function 0
	wasm := h + "\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x04\x01\x02\x00\x0b" +
		"\x00" + string(leb(len(names))) + names
	out, err := metering.Rewrite([]byte(wasm), metering.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cut := "\x80\x01" + long[:128]
	if n := strings.Count(string(out), cut); n != 2 || strings.Contains(string(out), long[:130]) {
		t.Errorf("%d names are cut to 128 bytes, want 2", n)
	}
	huge := strings.Repeat("x", 2000)
	wasm = h + "\x01\x04\x01\x60\x00\x00\x02" + string(leb(2000+2+1+3)) + "\x01" + string(leb(2000)) + huge + "\x00\x00\x00"
	if _, err := metering.Rewrite([]byte(wasm), metering.Options{}); err == nil || len(err.Error()) > 200 ||
		!strings.Contains(err.Error(), "more than 1024") {
		t.Errorf("an import with a name of 2000 bytes: %v", err)
	}
}
