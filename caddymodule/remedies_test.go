package caddymodule

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// oneLineBlock matches a block in one line, which Caddy's parser rejects.
var oneLineBlock = regexp.MustCompile(`[a-z_>] \{ (…|[a-z_]+( [^}]*)?)? ?\}`)

// A text that an operator could copy into a Caddyfile has no block in one line.
func TestRemediesCanBeWritten(t *testing.T) {
	for _, root := range []string{".", "../relay", "../plugins"} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if f, ok := n.(*ast.Field); ok && f.Tag != nil {
					return false // the tag describes the setting for the reference
				}
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if text, err := strconv.Unquote(l.Value); err == nil && oneLineBlock.MatchString(text) {
						t.Errorf("%v: %q has a block in one line; name the block and the settings in it", files.Position(n.Pos()), text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
