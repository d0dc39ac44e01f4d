package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// npmPackage is what the registry shows of a package.
type npmPackage struct {
	Name, Version, Description, Homepage, License, Author string
	Keywords                                              []string
	Bugs                                                  struct{ URL string }
	Repository                                            struct{ Type, URL, Directory string }
	Engines                                               struct{ Node string }
	Private                                               bool
}

// Packages for npm say where they come from, and contain what they need and nothing else.
func TestNPMPackages(t *testing.T) {
	for dir, want := range map[string][]string{
		"clients/js":         {"LICENSE", "README.md", "package.json", "dist/", "src/"},
		"sdk/assemblyscript": {"LICENSE", "README.md", "package.json", "index.ts", "function.ts", "assembly/", "testing/", "bin/"},
	} {
		t.Run(dir, func(t *testing.T) {
			path := filepath.Join("..", "..", filepath.FromSlash(dir))
			text, err := os.ReadFile(filepath.Join(path, "package.json"))
			if err != nil {
				t.Fatal(err)
			}
			var p npmPackage
			if err := json.Unmarshal(text, &p); err != nil {
				t.Fatal(err)
			}
			if p.Private || p.License != "Apache-2.0" || p.Author == "" || len(p.Keywords) < 3 || p.Engines.Node == "" ||
				p.Repository.URL != "git+https://github.com/edgerelay/edgerelay.git" || p.Repository.Directory != dir ||
				p.Homepage == "" || p.Bugs.URL == "" || p.Description == "" {
				t.Errorf("the registry would show %+v", p)
			}
			comparePacked(t, path, want)
		})
	}
}

// comparePacked compares the files that npm would publish with names, or folders that end with a slash.
func comparePacked(t *testing.T, dir string, want []string) {
	t.Helper()
	cmd := exec.Command("npm", "pack", "--dry-run", "--json", "--ignore-scripts")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var packed []struct{ Files []struct{ Path string } }
	if err := json.Unmarshal(out, &packed); err != nil || len(packed) != 1 {
		t.Fatalf("npm pack: %v\n%s", err, out)
	}
	found := map[string]bool{}
	for _, f := range packed[0].Files {
		at := slices.IndexFunc(want, func(w string) bool {
			return f.Path == w || strings.HasSuffix(w, "/") && strings.HasPrefix(f.Path, w)
		})
		if at < 0 {
			t.Errorf("npm would publish %s", f.Path)
			continue
		}
		found[want[at]] = true
	}
	for _, w := range want {
		if !found[w] {
			t.Errorf("npm would publish no %s", w)
		}
	}
	for _, license := range []string{"LICENSE"} {
		ours, err := os.ReadFile(filepath.Join("..", "..", license))
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err := os.ReadFile(filepath.Join(dir, license)); err != nil || string(theirs) != string(ours) {
			t.Errorf("%s is not that of the repository (%v)", license, err)
		}
	}
}

// The crate has the metadata that crates.io wants, and no files of tests' targets.
func TestCrate(t *testing.T) {
	dir := filepath.Join("..", "..", "sdk", "rust")
	text, err := os.ReadFile(filepath.Join(dir, "Cargo.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"description", "license", "repository", "homepage", "documentation", "readme", "keywords", "categories", "rust-version"} {
		if !strings.Contains(string(text), "\n"+key+" = ") {
			t.Errorf("Cargo.toml has no %s", key)
		}
	}
	cmd := exec.Command("cargo", "package", "--list", "--offline", "--allow-dirty")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Fields(string(out))
	for _, want := range []string{"Cargo.toml", "LICENSE", "README.md", "src/lib.rs"} {
		if !slices.Contains(files, want) {
			t.Errorf("cargo would publish no %s", want)
		}
	}
	for _, f := range files {
		if dir, _, inside := strings.Cut(f, "/"); inside && dir != "src" {
			t.Errorf("cargo would publish %s", f)
		}
	}
}
