// Command table writes the results of `make mesh` into a page of the documentation, between the lines with the marks
// "mesh results" and "end of mesh results".
//
//	go run ./internal/mesh/table docs/backplane.md mesh.json...
package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/edgerelay/edgerelay/internal/mesh/result"
)

// begin and end are the marks; the text between them is replaced.
const (
	begin = "<!-- mesh results: `make mesh-table RESULTS=<file>` replaces the table -->\n"
	end   = "<!-- end of mesh results -->\n"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: table <page> <results>...")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write replaces the table of a page by that of the results.
func write(page string, results []string) error {
	var rows []*result.Row
	for _, file := range results {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		some, err := result.Read(bytes.NewReader(text))
		if err != nil {
			return fmt.Errorf("%s: %w; write results with RESULTS=<name>.json", file, err)
		}
		rows = append(rows, some...)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	changed, err := replace(string(text), result.Compare(rows))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(changed), 0o644)
}

// replace replaces the text between the marks.
func replace(page, table string) (string, error) {
	before, rest, ok := strings.Cut(page, begin)
	_, after, complete := strings.Cut(rest, end)
	if !ok || !complete {
		return "", fmt.Errorf("finding the table: no lines %q and %q", begin, end)
	}
	return before + begin + "\n" + table + "\n" + end + after, nil
}
