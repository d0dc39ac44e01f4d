package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The built Caddy has the version that the tests use.
func TestCaddyVersionIsThatOfGoMod(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	builder, err := load("xcaddy.json")
	if err != nil {
		t.Fatal(err)
	}
	required, err := goCommand(t.Context(), "list", "-m", "-f", "{{.Version}}", "github.com/caddyserver/caddy/v2")
	if err != nil {
		t.Fatal(err)
	}
	if builder.CaddyVersion != required {
		t.Errorf("xcaddy.json builds Caddy %s, go.mod requires %s: change one of them", builder.CaddyVersion, required)
	}
	module, _, err := mainModule(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(builder.Plugins) != 1 || builder.Plugins[0].PackagePath != module+"/caddymodule" {
		t.Errorf("xcaddy.json builds with %v, want only %s/caddymodule", builder.Plugins, module)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ json, want string }{
		"unknown field": {`{"caddy_version": "v2.11.9", "plugin": []}`, "plugin"},
		"no version":    {`{"plugins": []}`, "caddy_version"},
		"not JSON":      {`caddy`, "xcaddy.Builder"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "xcaddy.json")
			if err := os.WriteFile(file, []byte(c.json), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := load(file); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that names %q", err, c.want)
			}
		})
	}
	if _, err := load(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestLocalFirst(t *testing.T) {
	for in, want := range map[string]string{
		"https://modules.example,direct":           "https://modules.example|off",
		"https://a.example,https://b.example":      "https://a.example|https://b.example|off",
		"https://a.example|direct":                 "https://a.example|off",
		"https://a.example,off":                    "https://a.example|off",
		" https://a.example , direct":              "https://a.example|off",
		"direct":                                   "direct",
		"off":                                      "off",
		"file:///srv/proxy,https://b.example,none": "file:///srv/proxy|https://b.example|none|off",
	} {
		if got := localFirst(in); got != want {
			t.Errorf("localFirst(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	t.Setenv("GOPROXY", "https://proxy.example,direct")
	env, err := environment(t.Context(), []string{"GOPROXY=https://proxy.example,direct", "GOTOOLCHAIN=auto"})
	if err != nil {
		t.Fatal(err)
	}
	// exec uses the last of two equal keys.
	for _, want := range []string{"GOPROXY=https://proxy.example|off", "GOTOOLCHAIN=local", "GOWORK=off"} {
		key, _, _ := strings.Cut(want, "=")
		last := ""
		for _, e := range slices.Backward(env) {
			if strings.HasPrefix(e, key+"=") {
				last = e
				break
			}
		}
		if last != want {
			t.Errorf("%s is %q, want %q", key, last, want)
		}
	}
}
