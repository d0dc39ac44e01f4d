// Package guests builds WebAssembly plugins and runs their golden samples on the real host, for the tests of SDKs,
// examples and templates.
package guests

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// Root is the root of the repository, seen from a package two levels below it.
const Root = "../.."

// Samples reads a file of samples. A file without samples, or a sample without a verdict, fails the test.
func Samples(t testing.TB, file string) []plugins.Sample {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	samples, err := plugins.ReadSamples(f, "test")
	if err != nil || len(samples) == 0 {
		t.Fatalf("%s: %d samples, %v", file, len(samples), err)
	}
	for i := range samples {
		if samples[i].Verdict == "" {
			t.Fatalf("%s: sample %d has no verdict", file, i+1)
		}
	}
	return samples
}

// built holds the modules of BuildGo, by folder.
var built sync.Map

// BuildGo compiles a Go plugin as described in its README, once per test run, and returns the module.
func BuildGo(t testing.TB, dir string) []byte {
	t.Helper()
	if wasm, ok := built.Load(dir); ok {
		return wasm.([]byte)
	}
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = dir
	// Without the Go flags of this test run, and without downloads.
	cmd.Env = append(
		os.Environ(),
		"GOOS=wasip1",
		"GOARCH=wasm",
		"GOFLAGS=",
		"GOPROXY=off",
		"GOWORK=off",
		"CGO_ENABLED=0",
	)
	Run(t, cmd)
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	built.Store(dir, wasm)
	return wasm
}

// Run runs a command and returns the output. A failing command fails the test.
func Run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// Example is a plugin of examples/plugins.
type Example struct {
	Name   string // of the folder
	Go     bool   // built from source; the other examples have a committed plugin.wasm
	Config string // for the samples
	Grants []string
}

// Dir returns the example's folder.
func (e Example) Dir() string { return filepath.Join(Root, "examples", "plugins", e.Name) }

// Wasm returns the example's module.
func (e Example) Wasm(t testing.TB) []byte {
	t.Helper()
	if e.Go {
		return BuildGo(t, e.Dir())
	}
	wasm, err := os.ReadFile(filepath.Join(e.Dir(), "plugin.wasm"))
	if err != nil {
		t.Fatal(fmt.Errorf("%w; build it with scripts/build-plugins.sh", err))
	}
	return wasm
}

// CheckProject builds a plugin project as described in its README and runs its samples.
func CheckProject(t testing.TB, dir string) {
	t.Helper()
	cmd := exec.Command("sh", "build.sh")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off")
	Run(t, cmd)
	wasm, err := os.ReadFile(filepath.Join(dir, "plugin.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := plugins.ReadManifest(wasm)
	if err != nil || m == nil || m.Name == "" {
		t.Fatalf("the module has the manifest %+v, %v", m, err)
	}
	samples := filepath.Join(dir, "events.ndjson")
	if _, err := os.Stat(samples); err != nil { // a function
		samples = filepath.Join(dir, "samples.ndjson")
	}
	spec := plugins.Spec{
		Name: "project", Wasm: wasm, JSON: true, Samples: Samples(t, samples), Grants: m.Grants,
		Join: []string{"*"}, Publish: []string{"*"},
	}
	p, err := plugins.New(plugins.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Check(context.Background(), spec); err != nil {
		t.Error(err)
	}
}
