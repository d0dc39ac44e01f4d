package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sourced are committed modules whose source has another name.
var sourced = map[string]string{
	"examples/demo/redact.wasm": "examples/plugins/redact/plugin.go",
}

// Every committed module has its source in the repository, and NOTICE tells which foreign code is in it.
func TestCommittedModules(t *testing.T) {
	root := filepath.Join("..", "..")
	notice, err := os.ReadFile(filepath.Join(root, "NOTICE"))
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("git", "ls-files", "*.wasm")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Fields(string(out))
	if len(files) < 100 {
		t.Fatalf("only %d modules", len(files))
	}
	for _, file := range files {
		source := sourceOf(root, file)
		if source == "" {
			t.Errorf("%s has no source beside it", file)
			continue
		}
		if language := filepath.Ext(source); language == ".rs" || language == ".ts" || language == ".go" {
			dir := filepath.ToSlash(filepath.Dir(file))
			if !strings.Contains(string(notice), dir) {
				t.Errorf("NOTICE does not name %s, which contains the runtime of %s", file, language)
			}
		}
	}
}

var ofGuest = regexp.MustCompile(`^internal/guests/testdata/(\w+)-(c|rs|ts)\.wasm$`)

// sourceOf returns the source of a module, or "".
func sourceOf(root, file string) string {
	bare := strings.TrimSuffix(file, ".wasm")
	candidates := []string{sourced[file]}
	if m := ofGuest.FindStringSubmatch(file); m != nil {
		candidates = append(candidates, "internal/guests/testdata/"+m[1]+"."+m[2])
	}
	for _, extension := range []string{".wat", ".c", ".rs", ".ts", ".go"} {
		candidates = append(candidates, bare+extension,
			filepath.Join(filepath.Dir(file), "src", filepath.Base(bare)+extension))
	}
	for _, c := range candidates {
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(c))); c != "" && err == nil {
			return c
		}
	}
	return ""
}
