package metering

import (
	"errors"
	"strings"
	"testing"
)

// A feature beyond core 2.0 is named, and the module is not called malformed.
func TestUnsupportedFeaturesAreNamed(t *testing.T) {
	const (
		void     = "\x01\x04\x01\x60\x00\x00" // type section: () -> ()
		function = "\x03\x02\x01\x00"
	)
	code := func(body string) string {
		n := byte(len(body))
		return void + function + "\x0a" + string([]byte{n + 4, 1, n + 2, 0}) + body + "\x0b"
	}
	for _, c := range []struct{ name, sections, want string }{
		{"shared memory", "\x05\x04\x01\x03\x01\x01", "threads (a shared memory)"},
		{"atomics", code("\xfe\x00\x00\x00"), "threads (opcode 0xfe)"},
		{"64-bit memory", "\x05\x03\x01\x04\x01", "64-bit memory"},
		{"two memories", "\x05\x05\x02\x00\x01\x00\x01", "several memories"},
		{"tail call", code("\x12\x00"), "tail calls"},
		{"throw", code("\x08\x00"), "exceptions"},
		{"tag", "\x0d\x03\x01\x00\x00", "exceptions"},
		{"extended constant", "\x06\x09\x01\x7f\x00\x41\x01\x41\x02\x6a\x0b", "extended constant expressions"},
		{"relaxed SIMD", code("\xfd\x80\x02"), "relaxed SIMD"},
		{"call_ref", code("\x14\x00"), "typed function references"},
		{"reference parameter", "\x01\x05\x01\x60\x01\x64\x00", "typed function references"},
		{"struct", "\x01\x03\x01\x5f\x00", "garbage collection"},
		{"anyref", "\x01\x05\x01\x60\x01\x6e\x00", "garbage collection"},
	} {
		wasm := []byte("\x00asm\x01\x00\x00\x00" + c.sections)
		_, err := Rewrite(wasm, Options{InitialFuel: 1, MaxTableElements: 1, MaxPages: 1})
		if err == nil || !strings.Contains(err.Error(), "unsupported WebAssembly feature: "+c.want) ||
			!strings.HasSuffix(err.Error(), "build for core 2.0") || errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
