package metering_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

const ampleFuel = math.MaxInt64 / 4

// TestSpecification runs the test suite of the WebAssembly specification, as contained in wazero's module, and rewrites
// every module before it is instantiated. The rewriter or wazero must reject the modules that the suite calls malformed
// or invalid.
func TestSpecification(t *testing.T) {
	for _, v := range []struct {
		dir      string
		features api.CoreFeatures
		least    int // assertions; an empty folder must not pass
	}{
		{"v1", api.CoreFeaturesV1, 15_000},
		{"v2", api.CoreFeaturesV2, 45_000},
	} {
		t.Run(v.dir, func(t *testing.T) {
			dir := specDir(t, v.dir)
			scripts, err := filepath.Glob(filepath.Join(dir, "*.json"))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, path := range scripts {
				t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
					s := &script{t: t, dir: dir, features: v.features}
					s.run(path)
					n += s.assertions
				})
			}
			t.Logf("%d scripts, %d assertions", len(scripts), n)
			if n < v.least {
				t.Errorf("only %d assertions ran, at least %d are known to be there", n, v.least)
			}
		})
	}
}

// specDir finds the suite in the module cache.
func specDir(t testing.TB, version string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatalf("where is wazero's source? run `go mod download github.com/tetratelabs/wazero`: %v", err)
	}
	dir := filepath.Join(
		strings.TrimSpace(string(out)),
		"internal",
		"integration_test",
		"spectest",
		version,
		"testdata",
	)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the specification's test suite is not in wazero's module: %v", err)
	}
	return dir
}

// script is a run of a script made by wast2json.
type script struct {
	t          *testing.T
	dir        string
	features   api.CoreFeatures
	runtime    wazero.Runtime
	modules    map[string]api.Module
	last       api.Module
	assertions int
}

type command struct {
	Type       string `json:"type"`
	Line       int    `json:"line"`
	Name       string `json:"name"`
	As         string `json:"as"`
	Filename   string `json:"filename"`
	ModuleType string `json:"module_type"`
	Text       string `json:"text"`
	Action     struct {
		Type   string  `json:"type"`
		Module string  `json:"module"`
		Field  string  `json:"field"`
		Args   []value `json:"args"`
	} `json:"action"`
	Expected []value `json:"expected"`
}

type value struct {
	Type     string          `json:"type"`
	LaneType string          `json:"lane_type"`
	Value    json.RawMessage `json:"value"`
}

// The suite's host module, as text.
const spectestModule = "testdata/spectest.wasm"

func (s *script) run(path string) {
	t := s.t
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Commands []command }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	s.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(s.features))
	defer s.runtime.Close(ctx)
	newHost(t, s.runtime).reserve = ampleFuel
	s.modules = map[string]api.Module{}
	host, err := os.ReadFile(spectestModule)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.runtime.InstantiateWithConfig(ctx, host, wazero.NewModuleConfig().WithName("spectest")); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(file.Commands); i++ {
		c := &file.Commands[i]
		name := ""
		if c.Type == "module" && i+1 < len(file.Commands) && file.Commands[i+1].Type == "register" {
			i++
			name = file.Commands[i].As
		}
		if err := s.command(c, name); err != nil {
			t.Errorf("line %d, %s: %v", c.Line, c.Type, err)
			if c.Type == "module" {
				return
			}
		}
	}
}

func (s *script) instantiate(file, name string) (api.Module, error) {
	wasm, err := os.ReadFile(filepath.Join(s.dir, file))
	if err != nil {
		s.t.Fatal(err)
	}
	metered, err := metering.Rewrite(wasm, metering.Options{InitialFuel: ampleFuel})
	if err != nil {
		return nil, err
	}
	return s.runtime.InstantiateWithConfig(context.Background(), metered, wazero.NewModuleConfig().WithName(name))
}

func (s *script) command(c *command, name string) error {
	switch c.Type {
	case "module":
		m, err := s.instantiate(c.Filename, name)
		if err != nil {
			return err
		}
		s.last = m
		if c.Name != "" {
			s.modules[c.Name] = m
		}
		return nil
	case "assert_return", "action":
		s.assertions++
		got, err := s.act(c)
		if err != nil {
			return err
		}
		var want []uint64
		for _, v := range c.Expected {
			want = append(want, v.bits()...)
		}
		if len(got) != len(want) {
			return fmt.Errorf("%s gives %d words, want %d", c.Action.Field, len(got), len(want))
		}
		i := 0
		for _, v := range c.Expected {
			n := len(v.bits())
			if err := v.equal(got[i : i+n]); err != nil {
				return fmt.Errorf("%s: %w", c.Action.Field, err)
			}
			i += n
		}
		return nil
	case "assert_trap", "assert_exhaustion":
		s.assertions++
		want := trapText(c.Text)
		if _, err := s.act(c); err == nil || !strings.Contains(err.Error(), want) {
			return fmt.Errorf("%s ends with %v, want %q", c.Action.Field, err, want)
		}
		return nil
	case "assert_malformed", "assert_invalid", "assert_unlinkable", "assert_uninstantiable":
		if c.ModuleType == "text" {
			return nil // about the text format, which no code here reads
		}
		s.assertions++
		_, err := s.instantiate(c.Filename, "")
		if c.Type == "assert_uninstantiable" && c.Text == "out of bounds table access" {
			return err // wazero instantiates these, as its own run of the suite says
		}
		if err == nil {
			return fmt.Errorf("%s is accepted, want an error: %s", c.Filename, c.Text)
		}
		return nil
	}
	return fmt.Errorf("unknown command")
}

func (s *script) act(c *command) ([]uint64, error) {
	m := s.last
	if c.Action.Module != "" {
		m = s.modules[c.Action.Module]
	}
	if c.Action.Type == "get" {
		return []uint64{m.ExportedGlobal(c.Action.Field).Get()}, nil
	}
	counterOf(m).Set(uint64(metering.NewCounter(0))) // a trap before did not return its stack
	var args []uint64
	for _, v := range c.Action.Args {
		args = append(args, v.bits()...)
	}
	return m.ExportedFunction(c.Action.Field).Call(context.Background(), args...)
}

// trapText maps the suite's error texts to wazero's.
func trapText(text string) string {
	switch {
	case text == "undefined element",
		text == "undefined",
		text == "out of bounds table access",
		strings.HasPrefix(text, "uninitialized"):
		return "invalid table access"
	case text == "indirect call":
		return "indirect call type mismatch"
	case text == "call stack exhausted":
		return "stack overflow"
	}
	return text
}

// bits returns a value as wazero's words of 64 bits, two words for a vector.
func (v value) bits() []uint64 {
	if v.Type == "v128" {
		var lanes []string
		if err := json.Unmarshal(v.Value, &lanes); err != nil {
			panic(err)
		}
		width := 128 / len(lanes)
		out := make([]uint64, 2)
		for i, lane := range lanes {
			at := i * width
			out[at/64] |= number(lane, width) << (at % 64)
		}
		return out
	}
	if len(v.Value) == 0 || bytes.Equal(v.Value, []byte("null")) {
		return []uint64{0}
	}
	var s string
	if err := json.Unmarshal(v.Value, &s); err != nil {
		panic(err)
	}
	if s == "null" {
		return []uint64{0}
	}
	width := 64
	if strings.HasSuffix(v.Type, "32") {
		width = 32
	}
	n := number(s, width)
	if v.Type == "externref" {
		n++ // zero is null in wazero
	}
	return []uint64{n}
}

func number(s string, width int) uint64 {
	if strings.HasPrefix(s, "nan:") { // compared by nanMatches
		if width == 32 {
			return 0x7fc00000
		}
		return 0x7ff8000000000000
	}
	if strings.HasPrefix(s, "-") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			panic(err)
		}
		return uint64(n) & (math.MaxUint64 >> (64 - width))
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (v value) equal(got []uint64) error {
	if v.Type != "v128" {
		width := 64
		if strings.HasSuffix(v.Type, "32") {
			width = 32
		}
		var text string
		_ = json.Unmarshal(v.Value, &text)
		return same(
			text,
			got[0]&(math.MaxUint64>>(64-width)),
			v.bits()[0],
			width,
			strings.HasPrefix(v.Type, "f") && v.Type != "funcref",
		)
	}
	var lanes []string
	if err := json.Unmarshal(v.Value, &lanes); err != nil {
		return err
	}
	width := 128 / len(lanes)
	for i, lane := range lanes {
		at := i * width
		g := got[at/64] >> (at % 64) & (math.MaxUint64 >> (64 - width))
		if err := same(lane, g, number(lane, width), width, strings.HasPrefix(v.LaneType, "f")); err != nil {
			return fmt.Errorf("lane %d: %w", i, err)
		}
	}
	return nil
}

// same compares bits, except that a NaN stands for a class of NaNs that the suite allows.
func same(text string, got, want uint64, width int, float bool) error {
	sign, exponent, quiet := uint64(1)<<63, uint64(0x7ff)<<52, uint64(1)<<51
	if width == 32 {
		sign, exponent, quiet = 1<<31, 0xff<<23, 1<<22
	}
	switch {
	case text == "nan:canonical":
		if got&^sign == exponent|quiet {
			return nil
		}
	case text == "nan:arithmetic":
		if got&exponent == exponent && got&quiet != 0 {
			return nil
		}
	case float && want&exponent == exponent && want&(quiet|(quiet-1)) != 0:
		if got&exponent == exponent && got&(quiet|(quiet-1)) != 0 {
			return nil
		}
	case got == want:
		return nil
	}
	return fmt.Errorf("got %#x, want %s (%#x)", got, text, want)
}
