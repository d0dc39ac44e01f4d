package soak

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// The long runs of the benchmark program in short: real clients, a real Caddy and a real Redis, and its own verdict on what
// may not grow. The long ones are `go -C bench run . churn` and `day`.
func TestEndurance(t *testing.T) {
	program := filepath.Join(t.TempDir(), "bench")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "bench")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build in bench: %v\n%s", err, out)
	}
	for _, run := range []struct {
		name string
		args []string
	}{
		{"20,000 connections leave nothing behind", []string{"-scale", "0.02", "churn"}},
		{"a short day leaves nothing behind", []string{"-scale", "0.01", "day"}},
	} {
		t.Run(run.name, func(t *testing.T) {
			args := append([]string{"-caddy", peers.RelayBinary(t), "-out", t.TempDir()}, run.args...)
			out, err := exec.Command(program, args...).CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Fatalf("bench %q: %v", args, err)
			}
		})
	}
}
