package layout_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	// namedTest is a test in a page, perhaps after its package; an ellipsis stands for the rest of several names.
	namedTest = regexp.MustCompile("`(?:\\w+\\.)?((?:Test|Fuzz|Benchmark)\\w+)(…?)`")
)

// A page that names a test as its proof must not outlive the test.
func TestNamedTestsExist(t *testing.T) {
	var functions []string
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "node_modules"}, d.Name()) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, m := range testFunction.FindAllStringSubmatch(string(b), -1) {
			functions = append(functions, m[1])
		}
		return nil
	})
	if err != nil || len(functions) < 500 {
		t.Fatalf("test functions: got %d (%v), want at least 500", len(functions), err)
	}
	pages, err := filepath.Glob(filepath.Join(root, decisions, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, page := range append(pages, filepath.Join(root, "SECURITY.md")) {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range namedTest.FindAllStringSubmatch(string(b), -1) {
			named++
			if !slices.ContainsFunc(functions, func(f string) bool {
				return f == m[1] || m[2] != "" &&
					strings.HasPrefix(f, m[1])
			}) {
				t.Errorf("%s names %s, which does not exist", filepath.Base(page), m[1]+m[2])
			}
		}
	}
	if named < 50 {
		t.Errorf("the pages name %d tests, want at least 50", named)
	}
}

// namedFile is a file of this repository in a page.
var namedFile = regexp.MustCompile("`((?:caddymodule|deploy|docs|internal|plugins|relay|sdk)/[\\w./-]+\\.(?:go|json|md|yml))`")

// The walks of CONTRIBUTING.md name files that exist, or files to be written: those of the layer nats and of the
// transport sse.
func TestContributingNamesFiles(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := namedFile.FindAllStringSubmatch(string(b), -1)
	if len(names) < 10 {
		t.Errorf("got %d files, want at least 10", len(names))
	}
	for _, m := range names {
		if strings.Contains(m[1], "nats") || strings.Contains(m[1], "/sse/") {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("CONTRIBUTING.md names %s, which does not exist", m[1])
		}
	}
}
