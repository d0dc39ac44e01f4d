package main

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// markdown is the dialect of code hosts: tables, and an anchor at every heading.
var markdown = goldmark.New(
	goldmark.WithExtensions(extension.GFM),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
)

// document is a parsed Markdown file.
type document struct {
	source []byte
	root   ast.Node
	title  string    // of the first heading
	heads  []heading // in order
}

type heading struct {
	level    int
	text, id string
}

// parse reads Markdown.
func parse(source []byte) *document {
	ctx := parser.NewContext(parser.WithIDs(&anchors{seen: map[string]int{}}))
	d := &document{source: source, root: markdown.Parser().Parse(text.NewReader(source), parser.WithContext(ctx))}
	d.walk(func(n ast.Node) {
		if h, ok := n.(*ast.Heading); ok {
			id, _ := h.AttributeString("id")
			b, _ := id.([]byte)
			d.heads = append(d.heads, heading{h.Level, d.textOf(h), string(b)})
		}
	})
	if len(d.heads) > 0 {
		d.title = d.heads[0].text
	}
	return d
}

func (d *document) walk(visit func(ast.Node)) {
	_ = ast.Walk(d.root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			visit(n)
		}
		return ast.WalkContinue, nil
	})
}

// textOf returns the text inside a node, without markup.
func (d *document) textOf(n ast.Node) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Text:
			if entering {
				b.Write(n.Segment.Value(d.source))
				if n.SoftLineBreak() {
					b.WriteByte(' ')
				}
			}
		case *ast.String:
			if entering {
				b.Write(n.Value)
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// anchors generates the anchors of headings with the rules of code hosts.
type anchors struct{ seen map[string]int }

// Generate implements [parser.IDs].
func (a *anchors) Generate(value []byte, _ ast.NodeKind) []byte {
	id := slug(string(value))
	n := a.seen[id]
	a.seen[id]++
	if n > 0 {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	return []byte(id)
}

// Put implements [parser.IDs].
func (a *anchors) Put(value []byte) { a.seen[string(value)]++ }

// slug returns the anchor of a heading, without the number of a repeated heading.
func slug(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(heading)) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '_', r == '-':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}
