package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The stamp names the release, the commit after it, and changed files.
func TestCommit(t *testing.T) {
	for name, c := range map[string]struct {
		steps []string
		want  string // a regular expression
	}{
		"no repository":           {nil, "^$"},
		"before the first":        {[]string{"git init -q", "commit"}, `^devel-[0-9a-f]{7,}$`},
		"a release":               {[]string{"git init -q", "commit", "git tag v0.1.0"}, `^v0\.1\.0$`},
		"a release of a SDK":      {[]string{"git init -q", "commit", "git tag sdk/go/v0.2.0"}, `^devel-[0-9a-f]{7,}$`},
		"after a release":         {[]string{"git init -q", "commit", "git tag v0.1.0", "commit"}, `^v0\.1\.0-1-g[0-9a-f]{7,}$`},
		"changed after a release": {[]string{"git init -q", "commit", "git tag v0.1.0", "change"}, `^v0\.1\.0-dirty$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(must(os.Getwd())))
			for _, step := range c.steps {
				takeStep(t, step)
			}
			if got := commit(t.Context()); !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("%q, want %s", got, c.want)
			}
		})
	}
}

func must(s string, _ error) string { return s }

// takeStep runs a command, changes a file, or changes a file and commits it.
func takeStep(t *testing.T, step string) {
	t.Helper()
	words := strings.Fields(step)
	if step == "change" || step == "commit" {
		f, err := os.OpenFile("file", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("line\n"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil || step == "change" {
			return
		}
		takeStep(t, "git add file")
		words = []string{"git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "message"}
	}
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", step, err, out)
	}
}

// The flags are those of xcaddy, so that the cache of builds serves both.
func TestBuildFlags(t *testing.T) {
	const module = "github.com/edgerelay/edgerelay/caddymodule"
	for version, want := range map[string]string{
		"":       "-ldflags '-w -s' -trimpath -tags nobadger,nomysql,nopgx",
		"v0.1.0": "-ldflags '-w -s -X " + module + "/node.stamped=v0.1.0' -trimpath -tags nobadger,nomysql,nopgx",
	} {
		if got := buildFlags(module, version); got != want {
			t.Errorf("%q: %s\nwant %s", version, got, want)
		}
	}
}

// The binary under test knows its version: make passes the commit, go build reads it from git.
func TestBinaryHasAVersion(t *testing.T) {
	out, err := caddyCommand(t, "edgerelay", "version", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Edgerelay, Caddy, Go string }
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	if v.Edgerelay == "" || v.Edgerelay == "unknown" || strings.Contains(v.Edgerelay, "00010101") || v.Caddy == "" || v.Go == "" {
		t.Errorf("got %s", out)
	}
}
