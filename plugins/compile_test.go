package plugins

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins/internal/hostile"
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

// needMachineCode skips a test of machine code on processors that the engine has no compiler for. Elsewhere a process
// that interprets is a fault.
func needMachineCode(t *testing.T) {
	t.Helper()
	if CurrentEngine() == EngineInterpreter {
		if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
			t.Fatal("this process interprets modules")
		}
		t.Skip("this process interprets modules")
	}
}

func TestChildKeepsItsLimits(t *testing.T) {
	needMachineCode(t)
	for _, c := range []struct {
		name string
		wasm []byte
		want string // of the error; "" if the module may be compiled
	}{
		{"many locals in many loops", hostile.LocalsInLoops(2000, 1000), "raise the"},
		{"a branch table with many values", hostile.WideBranches(100_000, 900), "raise the"},
		{"long results", hostile.LongResults(60, 900, 200), "raise the"},
		{"deep blocks", hostile.DeepBlocks(10_000), ""},
		{"many live values", hostile.LiveValues(9000, 9000), "raise the"},
		{"a long name", hostile.LongName(8 << 20), ""},
		{"invalid", hostile.Repeated(1, 0x6a), "invalid function"},
		{"no module", []byte("text"), "magic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			began := time.Now()
			err := child(t, testLimits(c.want == "raise the")).Compile(context.Background(), dir, c.wasm)
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

// A child that has not had the processor is late because of the machine, not because of the module.
func TestChildOnBusyMachine(t *testing.T) {
	idle := &ChildCompiler{
		Command: []string{"sh", "-c", "exec sleep 100"}, Limits: func() Limits { return Limits{Time: time.Second} },
	}
	err := idle.Compile(context.Background(), t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "the machine is busy; try again later") {
		t.Errorf("%v", err)
	}
}
