package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"strings"
)

// parseJSON parses one or more values.
func parseJSON(code string) error {
	values := json.NewDecoder(strings.NewReader(code))
	for {
		var v any
		if err := values.Decode(&v); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// pythonParser parses statements, or members of a dict.
const pythonParser = `
import ast, sys
code = sys.stdin.read()
try:
    ast.parse(code)
except SyntaxError as e:
    try:
        ast.parse("{" + code + "}")
    except SyntaxError:
        sys.exit(str(e))
`

func parsePython(python, code string) error {
	cmd := exec.Command(python, "-c", pythonParser)
	cmd.Stdin = strings.NewReader(code)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s", out)
	}
	return nil
}

// parseGo parses a file, declarations or statements.
func parseGo(code string) (err error) {
	code = strings.ReplaceAll(code, "…\n", "// …\n")
	for _, f := range []struct{ before, after string }{
		{"", ""}, {"package p\n", ""}, {"package p\nfunc f() {\n", "\n}\n"},
	} {
		var e error
		if _, e = parser.ParseFile(token.NewFileSet(), "", f.before+code+f.after, 0); e == nil {
			return nil
		}
		err = errors.Join(err, e)
	}
	return err
}

// parseJS parses a module.
func parseJS(node, code string) error {
	cmd := exec.Command(node, "--input-type=module", "--check", "-")
	cmd.Stdin = strings.NewReader(code)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s", out)
	}
	return nil
}
