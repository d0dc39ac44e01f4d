package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// caddyCommand runs a command of the binary named by EDGERELAY_CADDY, which `make test` sets to bin/caddy, or of the
// development binary, in the root of the repository.
func caddyCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program := os.Getenv("EDGERELAY_CADDY")
	if program == "" {
		program, args = "go", append([]string{"run", "./caddymodule/cmd/caddy"}, args...)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = filepath.Join("..", "..")
	// Caddy must not write to the developer's home; the go command keeps its cache.
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+home, "BROADCAST_WEBSOCKET_SECRET=for the example",
		"SHOP_KEY=for the example", "JWT_KEY=a key of at least 32 bytes, for the example")
	return cmd
}

// Every Caddyfile of the repository is valid, and formatted by `caddy fmt`.
func TestCaddyfilesAreValid(t *testing.T) {
	for _, file := range []string{"Caddyfile", "docs/Caddyfile", "deploy/container/Caddyfile", "deploy/packages/Caddyfile", "examples/awx/Caddyfile", "examples/awx/Caddyfile.pod", "examples/django/Caddyfile", "examples/django/chat/Caddyfile", "examples/node-backend/Caddyfile", "examples/django/chat/Caddyfile.compose", "examples/django/notifications/Caddyfile.compose", "examples/django/tokens/Caddyfile.compose"} {
		t.Run(file, func(t *testing.T) {
			if out, err := caddyCommand(t, "adapt", "--config", file, "--adapter", "caddyfile", "--validate").CombinedOutput(); err != nil {
				t.Errorf("caddy adapt --validate: %v\n%s", err, out)
			}
			text, err := os.ReadFile(filepath.Join("..", "..", file))
			if err != nil {
				t.Fatal(err)
			}
			formatted, err := caddyCommand(t, "fmt", file).Output()
			if err != nil || string(formatted) != string(text) {
				t.Errorf("not formatted: run `caddy fmt --overwrite %s` (%v)", file, err)
			}
		})
	}
}

func TestModulesAreInTheBinary(t *testing.T) {
	out, err := caddyCommand(t, "list-modules").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(out))
	for _, want := range []string{
		"edgerelay", "http.handlers.edgerelay", "http.handlers.edgerelay_publish", "http.handlers.edgerelay_demo", "admin.api.edgerelay",
		"edgerelay.channel_layers.memory", "edgerelay.channel_layers.redis",
		"edgerelay.auth.awx", "edgerelay.auth.caddy", "edgerelay.auth.none",
		"http.reverse_proxy.transport.uwsgi",
	} {
		if !slices.Contains(modules, want) {
			t.Errorf("list-modules shows no %s", want)
		}
	}
}
