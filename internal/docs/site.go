package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
)

//go:embed page.html style.css
var assets embed.FS

var pageTemplate = template.Must(template.ParseFS(assets, "page.html"))

// page is what the template shows.
type page struct {
	Title      string
	Root       string // the way from this page to the site's root: "", "../", …
	Name       string // the file in the repository
	Chapters   []chapter
	Heads      []tocEntry
	Body       template.HTML
	Prev, Next *entry
}

type tocEntry struct{ Text, ID string }

// Href is the way to the page of a file.
func (p page) Href(name string) string { return p.Root + pageOf(name) }

// Here reports whether the page is that of a file.
func (p page) Here(name string) bool { return p.Name == name }

// pageOf is where a file of the repository is in the site, which has the same folders.
func pageOf(name string) string {
	if name == contents {
		return "index.html"
	}
	return strings.TrimSuffix(name, ".md") + ".html"
}

// builder makes pages of Markdown files, and of all that they link to.
type builder struct {
	root, out string
	chapters  []chapter
	queue     []string // files and folders that are to become pages
	known     map[string]bool
}

// buildSite writes the site of the repository at root into the folder out, which it empties first.
func buildSite(root, out string) error {
	problems, err := checkLinks(root)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\n"))
	}
	chapters, err := navigation(root)
	if err != nil {
		return err
	}
	b := &builder{root: root, out: out, chapters: chapters, known: map[string]bool{}}
	if err := b.clear(); err != nil {
		return err
	}
	for _, c := range chapters {
		for _, p := range c.Pages {
			b.want(p.Name)
		}
	}
	for len(b.queue) > 0 {
		name := b.queue[0]
		b.queue = b.queue[1:]
		if err := b.make(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	style, err := assets.ReadFile("style.css")
	if err != nil {
		return err
	}
	if err := b.write("style.css", style); err != nil {
		return err
	}
	return b.render(page{Title: "Not found", Root: "/", Body: "<h1>Not found</h1><p>There is no such page. The navigation lists all that there are.</p>"}, "404.html")
}

// clear removes an earlier site, and nothing that is not one.
func (b *builder) clear() error {
	entries, err := os.ReadDir(b.out)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(b.out, "404.html")); err != nil {
		return fmt.Errorf("%s is not empty and holds no site: choose another folder", b.out)
	}
	return os.RemoveAll(b.out)
}

func (b *builder) want(name string) {
	if !b.known[name] {
		b.known[name] = true
		b.queue = append(b.queue, name)
	}
}

// make turns a file into a page, or copies it if it is a picture; of a folder it shows the README, or what is in it.
func (b *builder) make(name string) error {
	file := filepath.Join(b.root, filepath.FromSlash(name))
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return b.folder(name)
	}
	source, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	switch {
	case path.Ext(name) == ".md":
		return b.markdown(name, source)
	case path.Ext(name) == ".svg" || path.Ext(name) == ".png" || !utf8.Valid(source):
		return b.write(name, source)
	}
	body := "<h1>" + template.HTMLEscapeString(name) + "</h1>\n<pre><code>" + template.HTMLEscapeString(string(source)) + "</code></pre>"
	return b.render(page{Title: name, Name: name, Body: template.HTML(body)}, pageOf(name))
}

func (b *builder) folder(name string) error {
	entries, err := os.ReadDir(filepath.Join(b.root, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	body := "<h1>" + template.HTMLEscapeString(name) + "</h1>\n<ul>\n"
	for _, e := range entries {
		if e.Name() == "README.md" {
			b.want(name + "/README.md")
			return nil // links go there
		}
		body += "<li><code>" + template.HTMLEscapeString(e.Name()) + "</code></li>\n"
	}
	return b.render(page{Title: name, Name: name, Body: template.HTML(body + "</ul>")}, pageOf(name))
}

// target is the page that shows a file or folder.
func (b *builder) target(name string) string {
	switch ext := path.Ext(name); {
	case ext == ".svg" || ext == ".png" || ext == ".wasm":
		return name
	case ext == ".md":
		return pageOf(name)
	}
	if _, err := os.Stat(filepath.Join(b.root, filepath.FromSlash(name), "README.md")); err == nil {
		return pageOf(name + "/README.md")
	}
	return pageOf(name)
}

func (b *builder) markdown(name string, source []byte) error {
	doc := parse(source)
	links, err := doc.links(name)
	if err != nil {
		return err
	}
	up := up(pageOf(name))
	for _, l := range links {
		if l.path == "" {
			continue
		}
		b.want(l.path)
		href := up + b.target(l.path)
		if l.anchor != "" {
			href += "#" + l.anchor
		}
		switch n := l.node.(type) {
		case *ast.Link:
			n.Destination = []byte(href)
		case *ast.Image:
			n.Destination = []byte(href)
		}
	}
	doc.wrapTables()
	var body bytes.Buffer
	if err := markdown.Renderer().Render(&body, source, doc.root); err != nil {
		return err
	}
	p := page{Title: doc.title, Name: name, Body: template.HTML(body.String())}
	for _, h := range doc.heads {
		if h.level == 2 {
			p.Heads = append(p.Heads, tocEntry{h.text, h.id})
		}
	}
	var all []entry
	for _, c := range b.chapters {
		all = append(all, c.Pages...)
	}
	if i := slices.IndexFunc(all, func(e entry) bool { return e.Name == name }); i >= 0 {
		if i > 0 {
			p.Prev = &all[i-1]
		}
		if i+1 < len(all) {
			p.Next = &all[i+1]
		}
	}
	return b.render(p, pageOf(name))
}

// wrapTables puts each table into a box of its own that scrolls: on a telephone it is wider than the page.
func (d *document) wrapTables() {
	var tables []ast.Node
	d.walk(func(n ast.Node) {
		if n.Kind().String() == "Table" {
			tables = append(tables, n)
		}
	})
	for _, t := range tables {
		parent := t.Parent()
		parent.InsertBefore(parent, t, raw(`<div class="table" tabindex="0">`))
		parent.InsertAfter(parent, t, raw(`</div>`))
	}
}

// raw is a block of HTML. A code block renders what it is told only as text, so it is a String marked as code.
func raw(html string) ast.Node {
	p := ast.NewTextBlock()
	s := ast.NewString([]byte(html))
	s.SetCode(true)
	p.AppendChild(p, s)
	p.SetLines(text.NewSegments())
	return p
}

// up is the way from a page to the site's root.
func up(page string) string { return strings.Repeat("../", strings.Count(page, "/")) }

func (b *builder) render(p page, to string) error {
	p.Chapters = b.chapters
	if p.Root == "" {
		p.Root = up(to)
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, p); err != nil {
		return err
	}
	return b.write(to, out.Bytes())
}

func (b *builder) write(name string, content []byte) error {
	file := filepath.Join(b.out, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o644)
}
