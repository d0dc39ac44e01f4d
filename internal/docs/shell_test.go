package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// modules are the compiled plugins of docs/plugins.md, by file: versions of a redactor there, two examples here.
var modules = map[string]string{"redact.wasm": "redact-c", "redact-2.wasm": "quiet", "redact-3.wasm": "redact-c"}

// shell runs the commands of a page in a folder of the page. The folder has bin/caddy, as a checkout after `make
// build`.
type shell struct {
	relay *relay
	dir   string
	env   []string
}

func (r *relay) newShell(t *testing.T) *shell {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	program, err := filepath.Abs(r.program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(bin, "caddy")); err != nil {
		t.Fatal(err)
	}
	for name, module := range modules {
		wasm, err := filepath.Abs(filepath.Join(root, "examples", "plugins", module, "plugin.wasm"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(wasm, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return &shell{r, dir, append(r.command(context.Background()).Env, "CADDY_ADMIN="+r.admin,
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))}
}

// dryMake prints the commands of a target in the checkout and runs none: `make run` and `make build` take minutes.
const dryMake = "make() { command make --silent --dry-run -C %q \"$@\"; }\n"

// run runs commands, which must succeed and must not return an empty response.
func (s *shell) run(commands string) error {
	checkout, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Scale(20*time.Second))
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-eu", "-c", fmt.Sprintf(dryMake, checkout)+s.relay.here(commands))
	cmd.Dir, cmd.Env = s.dir, s.env
	// A command that does not end leaves no processes behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
