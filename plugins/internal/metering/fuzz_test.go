package metering_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// checkRewrite checks that Rewrite does not panic and makes no invalid module valid.
func checkRewrite(t *testing.T, r wazero.Runtime, wasm []byte) {
	t.Helper()
	before := string(wasm)
	metered, err := metering.Rewrite(wasm, metering.Options{InitialFuel: 1000, MaxTableElements: 1 << 20})
	if string(wasm) != before {
		t.Fatal("Rewrite changed its input")
	}
	if err != nil {
		return
	}
	ctx := context.Background()
	m, err := r.CompileModule(ctx, metered)
	if err != nil {
		return
	}
	m.Close(ctx)
	o, err := r.CompileModule(ctx, withoutCustom(wasm))
	if err != nil {
		t.Fatalf("rewriting made an invalid module valid; before: %v", err)
	}
	o.Close(ctx)
}

// withoutCustom drops the custom sections. They cannot make a module invalid, but wazero trusts them too much: a name
// section may claim millions of names. The module is one that the rewriter accepts.
func withoutCustom(wasm []byte) []byte {
	out := append([]byte(nil), wasm[:8]...)
	for rest := wasm[8:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		end := 1 + n + int(size)
		if rest[0] != 0 {
			out = append(out, rest[:end]...)
		}
		rest = rest[end:]
	}
	return out
}

// FuzzRewrite starts from the modules of the specification's suite and from arbitrary bytes.
func FuzzRewrite(f *testing.F) {
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
	for _, spec := range specModules(f, 600) {
		f.Add(spec.wasm)
	}
	r := wazero.NewRuntimeWithConfig(
		context.Background(),
		wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(64),
	)
	f.Cleanup(func() { r.Close(context.Background()) })
	f.Fuzz(func(t *testing.T, wasm []byte) { checkRewrite(t, r, wasm) })
}

// TestMutatedModules changes bytes of real modules, reproducibly, so that every test run covers what a short fuzzing
// would.
func TestMutatedModules(t *testing.T) {
	r := wazero.NewRuntimeWithConfig(
		context.Background(),
		wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(64),
	)
	defer r.Close(context.Background())
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, spec := range specModules(t, 2000) {
		wasm := spec.wasm
		for range 6 {
			m := append([]byte(nil), wasm...)
			for range 1 + rnd.IntN(3) {
				switch at := rnd.IntN(len(m)); rnd.IntN(4) {
				case 0:
					m[at] = byte(rnd.Uint32())
				case 1:
					m = m[:at+1]
				case 2:
					m[at] ^= 1 << rnd.IntN(8)
				case 3:
					m = append(m[:at+1], m[at:]...)
				}
			}
			checkRewrite(t, r, m)
		}
	}
}

// TestValidModules: the rewriter accepts every module that wazero compiles.
func TestValidModules(t *testing.T) {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2))
	defer r.Close(ctx)
	valid := 0
	for _, spec := range specModules(t, 1<<20) {
		m, err := r.CompileModule(ctx, spec.wasm)
		if err != nil {
			continue
		}
		m.Close(ctx)
		valid++
		if _, err := metering.Rewrite(spec.wasm, metering.Options{}); err != nil {
			t.Errorf("%s: %v", spec.name, err)
		}
	}
	if valid < 1500 {
		t.Errorf("only %d valid modules were found", valid)
	}
}

type specModule struct {
	name string
	wasm []byte
}

// specModules reads the suite's binary modules up to a size, always in the same order.
func specModules(t testing.TB, largest int64) (modules []specModule) {
	t.Helper()
	for _, v := range []string{"v1", "v2"} {
		files, err := filepath.Glob(filepath.Join(specDir(t, v), "*.wasm"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if s, err := os.Stat(f); err != nil || s.Size() == 0 || s.Size() > largest {
				continue
			}
			wasm, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			modules = append(modules, specModule{v + "/" + filepath.Base(f), wasm})
		}
	}
	return modules
}

func TestRefusals(t *testing.T) {
	h := "\x00asm\x01\x00\x00\x00"
	one := h + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" // one function () -> ()
	body := func(code string) string {
		b := "\x00" + code + "\x0b"
		b = "\x01" + string(rune(len(b))) + b
		return one + "\x0a" + string(rune(len(b))) + b
	}
	for _, c := range []struct{ name, wasm, want string }{
		{"empty", "", "begin with"},
		{"text", "(module)", "begin with"},
		{"component", "\x00asm\x0d\x00\x01\x00", "runs core modules"},
		{"cut", h + "\x01\x7f", "beyond the end"},
		{"order", h + "\x03\x01\x00\x01\x01\x00", "out of order"},
		{"no code", one, "no code section"},
		{"exceptions", body("\x06\x40\x0b"), "exceptions"},
		{"tail call", body("\x12\x00"), "tail calls"},
		{"threads", body("\xfe\x03\x00"), "threads"},
		{"GC", body("\xfb\x00"), "garbage collection"},
		{"relaxed SIMD", body("\xfd\x80\x02"), "relaxed SIMD"},
		{"a missing global", body("\x23\x00\x1a"), "global 0 of 0"},
		{"the rewriter's local", body("\x20\x00\x1a"), "local 0 of 0"},
		{"the rewriter's block", body("\x0c\x01"), "branch out of 1"},
		{"an operand stack that lacks a value", body("\x1a"), "lacks a value"},
		{"a block with a value too many", body("\x41\x00"), "ends with 1 values instead of 0"},
		{
			"metered already",
			h + "\x06\x06\x01\x7e\x01\x42\x00\x0b" + "\x07\x15\x01\x11edgerelay.counter\x03\x00",
			"metered already",
		},
		{"missing elements", h + "\x09\x05\xff\x97\x97\x97\x0d", "element segments, more than"},
		{
			"missing elements of a segment", h + "\x09\x08\x01\x01\x00\xff\xff\xff\xff\x0f",
			"more than 1000000 elements",
		},
		{"missing data segments", h + "\x0b\x03\xff\xff\x03", "data segments reach beyond the end"},
		{"missing data", h + "\x0b\x07\x01\x01\xff\xff\xff\xff\x0f", "beyond the end"},
		{"missing types", h + "\x01\x05\xff\xff\xff\xff\x0f", "types, more than"},
		{"missing parameters", h + "\x01\x06\x01\x60\xff\xff\xff\x0f", "parameters or results, more than"},
		{"a huge table", h + "\x04\x07\x01\x70\x00\xff\xff\xff\x7f", "larger than the limit"},
	} {
		_, err := metering.Rewrite([]byte(c.wasm), metering.Options{MaxTableElements: 1000})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	var many []byte
	for range 8193 {
		many = append(many, 0x02, 0x40, 0x0b)
	}
	size := len(many) + 2
	code := append([]byte{1, byte(size) | 0x80, byte(size>>7) | 0x80, byte(size >> 14), 0}, append(many, 0x0b)...)
	size = len(code)
	wasm := append([]byte(one), 0x0a, byte(size)|0x80, byte(size>>7)|0x80, byte(size>>14))
	if _, err := metering.Rewrite(
		append(wasm, code...),
		metering.Options{},
	); err == nil ||
		!strings.Contains(err.Error(), "more than 8192 blocks") {
		t.Errorf("a function that takes minutes to compile: %v", err)
	}
	// A malformed name section is dropped: it cannot make a module invalid.
	lies := h + "\x00\x0b\x04name\x01\x04\xff\xff\xff\x0f"
	if out, err := metering.Rewrite(
		[]byte(lies),
		metering.Options{},
	); err != nil ||
		strings.Contains(string(out), "name\x01") {
		t.Errorf("a name section with a huge count: %v, %q", err, out)
	}
	if _, err := metering.Rewrite(nil, metering.Options{}); !errors.Is(err, metering.ErrMalformed) {
		t.Errorf("an empty module is not ErrMalformed: %v", err)
	}
}
