package caddymodule

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
)

// messages are the log lines of the source below some directories, as "| level | message |".
func messages(t *testing.T, dirs ...string) (rows []string) {
	levels := map[string]string{"Debug": "debug", "Info": "info", "Warn": "warn", "Error": "error"}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				f, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || levels[f.Sel.Name] == "" {
					return true
				}
				on := ""
				switch x := f.X.(type) {
				case *ast.Ident:
					on = x.Name
				case *ast.SelectorExpr:
					on = x.Sel.Name
				}
				if text, ok := call.Args[0].(*ast.BasicLit); ok && strings.EqualFold(on, "log") {
					message, err := strconv.Unquote(text.Value)
					if err != nil {
						t.Fatal(err)
					}
					rows = append(rows, fmt.Sprintf("| %s | %s |", levels[f.Sel.Name], message))
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

// The table of log lines in the documentation is what the source has, and nothing else.
func TestLogLinesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := messages(t, ".", "../relay")
	if len(rows) < 30 {
		t.Fatalf("only %d log lines found in the source", len(rows))
	}
	for why := range reject.ReasonCount {
		level := map[slog.Level]string{
			slog.LevelDebug: "debug", slog.LevelInfo: "info", slog.LevelWarn: "warn",
			slog.LevelError: "error",
		}[why.LogLevel()]
		rows = append(rows, fmt.Sprintf("| %s | %s |", level, why.LogMessage()))
	}
	rows = append(rows, "| error | changed plugin file rejected |", "| error | plugin deployment unreadable |",
		"| error | deployed plugin rejected on this node |", "| error | changed plugin samples rejected |",
		"| error | changed plugin secrets rejected |",
		"| error | plugin canary unreadable |", "| error | plugin canary's end not recorded |",
		"| error | running plugin fails changed samples |", "| warn | compiled plugin not cached on disk |",
		"| warn | plugins run in an interpreter |")
	for _, row := range rows {
		if !strings.Contains(string(text), "\n"+row+" ") {
			t.Errorf("docs/observability.md has no line\n%s", row)
		}
	}
	for line := range strings.Lines(string(text)) {
		for _, level := range []string{"debug", "info", "warn", "error"} {
			if strings.HasPrefix(line, "| "+level+" |") && !slices.ContainsFunc(rows, func(r string) bool { return strings.HasPrefix(line, r) }) {
				t.Errorf("docs/observability.md has a log line that the source has not:\n%s", line)
			}
		}
	}
}
