package main

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
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

// No relative link of a Markdown file in the repository is dead.
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
	write(t, dir, "README.md", "# One\n\n## A `b`: c\n\n## A b c\n\n[1](#a-b-c) [2](#a-b-c-1) [3](docs/x.md#deep) [4](https://a.example/none) ![5](docs/none.png) [6](docs/x.md#none) [7](../out.md) [8](#none) [9](docs)")
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
	write(t, dir, "docs/README.md", "# D\n")
	if err := buildSite(dir, t.TempDir()); err == nil || !strings.Contains(err.Error(), "docs/none.png") {
		t.Errorf("a site with dead links: %v", err)
	}
}

var href = regexp.MustCompile(`(?:href|src)="([^"]*)"`)

// Every link in the built site leads to a file of the site, and to an anchor in it.
func TestSite(t *testing.T) {
	out := filepath.Join(t.TempDir(), "site")
	for range 2 { // the second time over the first
		if err := buildSite(root, out); err != nil {
			t.Fatal(err)
		}
	}
	pages := 0
	err := filepath.WalkDir(out, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".html" {
			return err
		}
		pages++
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(out, file)
		for _, m := range href.FindAllStringSubmatch(string(text), -1) {
			u, err := url.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if u.Scheme != "" {
				continue
			}
			target := name
			if u.Path != "" {
				target = path.Join(path.Dir(filepath.ToSlash(name)), u.Path)
				if path.IsAbs(u.Path) {
					target = u.Path[1:]
				}
			}
			b, err := os.ReadFile(filepath.Join(out, target))
			if err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			} else if u.Fragment != "" && !strings.Contains(string(b), `id="`+u.Fragment+`"`) {
				t.Errorf("%s links to %s, where that anchor is not", name, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages < 10 {
		t.Errorf("only %d pages", pages)
	}
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(out, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range docs {
		if name := "docs/" + filepath.Base(file); !strings.Contains(string(index), `href="`+pageOf(name)+`"`) {
			t.Errorf("%s is not in the navigation", name)
		}
	}
}

// The navigation follows the table of contents; what that does not know comes last.
func TestNavigation(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "docs/README.md", "# Docs\n\nSee [c](c.md).\n\n## First\n\n- [Bee](b.md): after [a](a.md)\n- [Read me](../README.md)\n\n## Second\n\n- [Aye](a.md)\n")
	for _, n := range []string{"a", "b", "c"} {
		write(t, dir, "docs/"+n+".md", "# Page "+n+"\n")
	}
	write(t, dir, "README.md", "# R\n")
	chapters, err := navigation(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range chapters {
		for _, p := range c.Pages {
			got = append(got, c.Title+"/"+p.Title+"="+p.Name)
		}
	}
	want := []string{"/Docs=docs/README.md", "First/Bee=docs/b.md", "First/Read me=README.md", "Second/Aye=docs/a.md", "More/Page c=docs/c.md"}
	if !slices.Equal(got, want) {
		t.Errorf("navigation\n%v\nwant\n%v", got, want)
	}
}

// A folder that holds something else is left alone.
func TestSiteRefusesFolder(t *testing.T) {
	out := t.TempDir()
	write(t, out, "mine.txt", "precious")
	if err := buildSite(root, out); err == nil || !strings.Contains(err.Error(), "holds no site") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(out, "mine.txt")); err != nil {
		t.Error(err)
	}
}
