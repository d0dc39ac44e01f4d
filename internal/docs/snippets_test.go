package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// generated are pages whose blocks come from tables in the code: grammars, and examples of commands.
var generated = []string{"docs/configuration.md", "docs/commands.md", "docs/api.md"}

// Every block of code in README.md and docs/*.md is tried, by its language:
//
//   - caddyfile: the real binary validates it, within the settings that it needs.
//   - sh, console: it runs beside a relay with the Caddyfile of `make run`, if the comment <!-- run --> stands before
//     it; make only prints its commands.
//   - json, python, go, js: it is parsed.
//   - text, yaml, dockerfile, html: not tried.
//
// A block that cannot be tried has a comment with the reason before it: <!-- not run: needs AWX -->. A reason may name
// the test that tries the block.
func TestSnippets(t *testing.T) {
	relay := newRelay(t)
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages: %v (%v)", pages, err)
	}
	tests := testNames(t)
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		name, err := filepath.Rel(root, page)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			blocks := parse(source).blocks()
			for _, b := range blocks {
				for _, test := range testName.FindAllString(b.skipped, -1) {
					if !slices.Contains(tests, test) {
						t.Errorf("%s:%d: the comment names %s, which does not exist", name, b.line, test)
					}
				}
			}
			if slices.Contains(generated, name) {
				return
			}
			relay := relay
			if name == "docs/plugins.md" { // its commands change the plugins of the relay
				relay = newRelay(t)
			}
			tryBlocks(t, relay, name, blocks)
		})
	}
}

// tryBlocks tries the blocks of a page in their order. Commands share a folder.
func tryBlocks(t *testing.T, relay *relay, page string, blocks []block) {
	shell := relay.newShell(t)
	for _, b := range blocks {
		if b.skipped != "" {
			continue
		}
		if err := tryBlock(t, relay, shell, b); err != nil {
			t.Errorf("%s:%d: %v\n%s", page, b.line, err, b.code)
		}
	}
}

func tryBlock(t *testing.T, relay *relay, shell *shell, b block) error {
	if (b.language == "sh" || b.language == "console") && !b.runs {
		return errors.New("mark the commands: <!-- run -->, or <!-- not run: <reason> -->")
	}
	switch b.language {
	case "caddyfile":
		return relay.validate(t, b.code)
	case "sh":
		return shell.run(b.code)
	case "console":
		return shell.run(commands(b.code))
	case "json":
		return parseJSON(b.code)
	case "python":
		return parsePython(process.Program(t, "python3"), b.code)
	case "go":
		return parseGo(b.code)
	case "js":
		return parseJS(process.Program(t, "node"), b.code)
	case "text", "yaml", "dockerfile", "html":
		return nil
	case "", "indented":
		return errors.New("the block has no language; use a fence such as ```sh, or ```text for output")
	}
	return fmt.Errorf("unknown language %q; extend tryBlock", b.language)
}

// commands returns the commands of a terminal session: the text behind "$ ", and lines continued by a backslash.
func commands(session string) string {
	var b strings.Builder
	continued := false
	for line := range strings.Lines(session) {
		command, ok := strings.CutPrefix(line, "$ ")
		if ok || continued {
			b.WriteString(command)
			continued = strings.HasSuffix(strings.TrimRight(line, "\n"), `\`)
		}
	}
	return b.String()
}

var testName = regexp.MustCompile(`\bTest[A-Z]\w*`)

// testNames returns the names of all tests of the repository.
func testNames(t *testing.T) []string {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(`)
	var names []string
	err := filepath.WalkDir(root, func(file string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || file == filepath.Join(root, "bin")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(file)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
		return err
	})
	if err != nil || len(names) < 100 {
		t.Fatalf("%d tests (%v)", len(names), err)
	}
	return names
}
