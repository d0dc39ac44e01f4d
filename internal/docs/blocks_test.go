package main

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/yuin/goldmark/ast"
)

// block is a block of code in a Markdown file.
type block struct {
	// language is the first word behind the fence, or "indented".
	language string
	code     string
	line     int
	// runs is true behind the comment `<!-- run -->`.
	runs bool
	// skipped is the reason in the comment `<!-- not run: … -->` before the block, or empty.
	skipped string
}

var skipComment = regexp.MustCompile(`^<!-- not run: (.+) -->\s*$`)

// blocks returns the blocks of code of a document, without the indentation of lists.
func (d *document) blocks() (found []block) {
	d.walk(func(n ast.Node) {
		b := block{language: "indented"}
		switch n := n.(type) {
		case *ast.FencedCodeBlock:
			b.language = string(n.Language(d.source))
		case *ast.CodeBlock:
		default:
			return
		}
		lines := n.Lines()
		if lines.Len() > 0 {
			b.line = 1 + bytes.Count(d.source[:lines.At(0).Start], []byte("\n"))
		}
		b.code = string(lines.Value(d.source))
		if comment, ok := n.PreviousSibling().(*ast.HTMLBlock); ok {
			text := strings.TrimSpace(string(comment.Lines().Value(d.source)))
			if m := skipComment.FindStringSubmatch(text); m != nil {
				b.skipped = m[1]
			}
			b.runs = text == "<!-- run -->"
		}
		found = append(found, b)
	})
	return found
}
