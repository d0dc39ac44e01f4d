package scaffold

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/guests"
)

// TestGoProject: a new Go project passes its own tests and its golden samples on the real host, without downloads.
// Package guests tests the projects of the other languages, because its tests need their toolchains anyway.
func TestGoProject(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my-plugin")
	if err := New("go", dir, ""); err != nil {
		t.Fatal(err)
	}
	test := exec.Command("go", "test", "./...")
	test.Dir = dir
	test.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off")
	guests.Run(t, test)
	guests.CheckProject(t, dir)
}

// TestProjectsAreComplete: every placeholder is replaced, and the README and the Caddyfile name the plugin.
func TestProjectsAreComplete(t *testing.T) {
	for _, lang := range Languages() {
		dir := filepath.Join(t.TempDir(), "x")
		if err := New(lang, dir, "my-plugin"); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"README.md", "Caddyfile", "events.ndjson", "build.sh"} {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Error(err)
			}
			if strings.HasSuffix(file, "file") && !bytes.Contains(text, []byte("plugin my-plugin ./plugin.wasm")) {
				t.Errorf("%s: the Caddyfile does not name the plugin", lang)
			}
		}
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if bytes.Contains(text, []byte("{{")) || strings.HasSuffix(path, ".tmpl") {
				t.Errorf("%s is not filled in", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestRefusals(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ lang, dir, name, want string }{
		{"cobol", filepath.Join(t.TempDir(), "p"), "", "use go, rust, assemblyscript, c"},
		{"go", filepath.Join(t.TempDir(), "9 lives"), "", "beginning with a letter"},
		{"go", filepath.Join(t.TempDir(), "p"), "a/b", "beginning with a letter"},
		{"go", full, "p", "is not empty"},
		{"go", filepath.Join(full, "mine"), "p", "not a directory"},
	} {
		if err := New(c.lang, c.dir, c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v", c.lang, c.dir, err)
		}
		if c.dir != full && filepath.Dir(c.dir) != full {
			if _, err := os.Stat(c.dir); err == nil {
				t.Errorf("%s was created anyway", c.dir)
			}
		}
	}
}

// TestGoSDKCopy: the Go SDK in the template equals the SDK.
func TestGoSDKCopy(t *testing.T) {
	root := filepath.Join(guests.Root, "sdk")
	want := map[string]bool{}
	for _, pattern := range []string{"*.go", "go.mod", "README.md"} {
		files, err := filepath.Glob(filepath.Join(root, "go", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if name := filepath.Base(file); !strings.HasSuffix(name, "_test.go") {
				want[name] = true
			}
		}
	}
	for name := range want {
		original, err := os.ReadFile(filepath.Join(root, "go", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, "templates", "go", "edgerelay", name+".tmpl"))
		if err != nil || !bytes.Equal(got, original) {
			t.Errorf("the copy of %s is not the same (%v): scripts/copy-go-sdk.sh renews it", name, err)
		}
	}
	copies, _ := filepath.Glob(filepath.Join(root, "templates", "go", "edgerelay", "*"))
	if len(want) == 0 || len(copies) != len(want) {
		t.Errorf("%d copies of %d files", len(copies), len(want))
	}
}
