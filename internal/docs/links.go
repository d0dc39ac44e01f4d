package main

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"
)

// link is a relative link of a Markdown file.
type link struct {
	node   ast.Node
	path   string // of the target, from the root of the repository; empty: the same file
	anchor string
}

// links returns the links of a document to places in the repository. name is its path from the root.
func (d *document) links(name string) ([]link, error) {
	var found []link
	var err error
	d.walk(func(n ast.Node) {
		var destination []byte
		switch n := n.(type) {
		case *ast.Link:
			destination = n.Destination
		case *ast.Image:
			destination = n.Destination
		default:
			return
		}
		u, e := url.Parse(string(destination))
		if e != nil {
			err = fmt.Errorf("%s: invalid link %q: %w", name, destination, e)
			return
		}
		if u.Scheme != "" || u.Host != "" {
			return
		}
		target := ""
		if u.Path != "" {
			target = path.Join(path.Dir(name), u.Path)
		}
		found = append(found, link{n, target, u.Fragment})
	})
	return found, err
}

// checkLinks returns the dead relative links of all Markdown files below root: missing files and missing anchors.
func checkLinks(root string) (problems []string, err error) {
	names, err := markdownFiles(root)
	if err != nil {
		return nil, err
	}
	docs := map[string]*document{}
	load := func(name string) (*document, error) {
		if docs[name] == nil {
			b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
			if err != nil {
				return nil, err
			}
			docs[name] = parse(b)
		}
		return docs[name], nil
	}
	for _, name := range names {
		doc, err := load(name)
		if err != nil {
			return nil, err
		}
		found, err := doc.links(name)
		if err != nil {
			return nil, err
		}
		for _, l := range found {
			target := l.path
			if target == "" {
				target = name
			}
			if strings.HasPrefix(target, "..") {
				problems = append(problems, fmt.Sprintf("%s links to %s, outside of the repository", name, target))
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(target))); err != nil {
				problems = append(problems, fmt.Sprintf("%s links to %s, which does not exist", name, target))
				continue
			}
			if l.anchor == "" || path.Ext(target) != ".md" {
				continue
			}
			other, err := load(target)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(other.heads, func(h heading) bool { return h.id == l.anchor }) {
				problems = append(problems, fmt.Sprintf("%s links to #%s of %s, which has no such heading", name,
					l.anchor, target))
			}
		}
	}
	return problems, nil
}

// markdownFiles returns the project's Markdown files below root, as paths relative to root.
func markdownFiles(root string) (names []string, err error) {
	err = filepath.WalkDir(root, func(file string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() && (name == "bin" || d.Name() == "node_modules" || d.Name() == "testdata" ||
			name == "sdk/templates" || name == "bench/results/tmp" || name == ".git") {
			return filepath.SkipDir
		}
		if !d.IsDir() && path.Ext(name) == ".md" {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}
