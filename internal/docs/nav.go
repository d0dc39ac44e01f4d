package main

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"
)

// contents is the page whose headings and links are the site's navigation, and their order.
const contents = "docs/README.md"

// chapter is a part of the navigation.
type chapter struct {
	Title string
	Pages []entry
}

type entry struct{ Title, Name string } // Name: of the Markdown file

// navigation reads the table of contents; pages of docs/ that it does not name come at the end.
func navigation(root string) ([]chapter, error) {
	source, err := os.ReadFile(filepath.Join(root, contents))
	if err != nil {
		return nil, err
	}
	doc := parse(source)
	links, err := doc.links(contents)
	if err != nil {
		return nil, err
	}
	chapters := []chapter{{Pages: []entry{{doc.title, contents}}}}
	known := []string{contents}
	doc.walk(func(n ast.Node) {
		if h, ok := n.(*ast.Heading); ok && h.Level == 2 {
			chapters = append(chapters, chapter{Title: doc.textOf(h)})
		}
		i := slices.IndexFunc(links, func(l link) bool { return l.node == n })
		// A page that is linked first thing in an item of a list; links in sentences are only links.
		if i < 0 || path.Ext(links[i].path) != ".md" || n.PreviousSibling() != nil || slices.Contains(known, links[i].path) {
			return
		}
		if _, inList := n.Parent().Parent().(*ast.ListItem); !inList {
			return
		}
		known = append(known, links[i].path)
		last := &chapters[len(chapters)-1]
		last.Pages = append(last.Pages, entry{doc.textOf(n), links[i].path})
	})
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	more := chapter{Title: "More"}
	for _, file := range files {
		name := "docs/" + filepath.Base(file)
		if slices.Contains(known, name) {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		title := parse(b).title
		if title == "" {
			title = strings.TrimSuffix(filepath.Base(file), ".md")
		}
		more.Pages = append(more.Pages, entry{title, name})
	}
	if len(more.Pages) > 0 {
		chapters = append(chapters, more)
	}
	return chapters, nil
}
