package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The repository's Markdown files have no dead relative links.
func TestLinks(t *testing.T) {
	problems, err := checkLinks(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	names, err := markdownFiles(root)
	if err != nil || !slices.Contains(names, "README.md") || !slices.Contains(names, "docs/plugins.md") {
		t.Errorf("Markdown files: %v, %v", names, err)
	}
}

func TestDeadLinksAreFound(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "README.md", "# One\n\n## A `b`: c\n\n## A b c\n\n[1](#a-b-c) [2](#a-b-c-1) [3](docs/x.md#deep) "+
		"[4](https://a.example/none) ![5](docs/none.png) [6](docs/x.md#none) [7](../out.md) [8](#none) [9](docs)")
	write(t, dir, "docs/x.md", "# X\n\n### Deep\n\n[back](../README.md#one) [gone](y.md)")
	problems, err := checkLinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"README.md links to docs/none.png, which does not exist",
		"README.md links to #none of docs/x.md, which has no such heading",
		"README.md links to ../out.md, outside of the repository",
		"README.md links to #none of README.md, which has no such heading",
		"docs/x.md links to docs/y.md, which does not exist",
	}
	if !slices.Equal(problems, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(problems, "\n"), strings.Join(want, "\n"))
	}
}

// The table of contents, docs/README.md, links to every page of docs/.
func TestContentsAreComplete(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root, "docs", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	links, err := parse(source).links("docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages: %v (%v)", pages, err)
	}
	for _, page := range pages {
		name := "docs/" + filepath.Base(page)
		if name != "docs/README.md" && !slices.ContainsFunc(links, func(l link) bool { return l.path == name }) {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
}

// The title of a page and its entry in the table of contents are equal, and begin with the file's name.
func TestTitlesAgreeWithFileNames(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root, "docs", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	contents := parse(source)
	links, err := contents.links("docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		dir, file := filepath.Split(l.path)
		if dir != "docs/" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, l.path))
		if err != nil {
			t.Fatal(err)
		}
		title, entry, name := parse(text).title, contents.textOf(l.node), strings.TrimSuffix(file, ".md")
		if title != entry {
			t.Errorf("%s: the title is %q, the entry in docs/README.md %q", l.path, title, entry)
		}
		if id := slug(title); id != name && !strings.HasPrefix(id, name+"-") {
			t.Errorf("%s: the title is %q, for which the file would be %s.md", l.path, title, id)
		}
	}
}

// README.md fits on three screens, and its test command is there: .ci/run is that command and `make lint`.
func TestReadmeIsShort(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 120 {
		t.Errorf("README.md has %d lines, want 120 at most", n)
	}
	if !strings.Contains(string(text), "\nmake test\n") {
		t.Error("README.md does not have the command `make test`")
	}
}
