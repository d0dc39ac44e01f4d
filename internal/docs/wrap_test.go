package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWrap(t *testing.T) {
	long := strings.Repeat("word ", 23) + "ends"
	for text, want := range map[string]string{
		"short":                     "short",
		long + " here":              long + "\nhere",
		"- " + long + " here":       "- " + strings.TrimSuffix(long, " ends") + "\n  ends here",
		long + " - here":            long + " -\nhere",
		long + "\n" + long + " é é": long + "\n" + long + "\né é",
	} {
		if got := wrap(text); got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", text, got, want)
		}
	}
}

// Prose of the pages is at most 120 columns wide. Tables, code, images and links of an index may be wider.
func TestProseIsNarrow(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d pages, %v", len(files), err)
	}
	decisions, err := filepath.Glob(filepath.Join(root, "docs", "decisions", "*.md"))
	if err != nil || len(decisions) < 10 {
		t.Fatalf("%d pages of decisions, %v", len(decisions), err)
	}
	files = append(files, decisions...)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		inCode := false
		for i, line := range strings.Split(string(text), "\n") {
			start := strings.TrimSpace(line)
			if strings.HasPrefix(start, "```") {
				inCode = !inCode
			}
			if inCode || strings.HasPrefix(start, "|") || strings.HasPrefix(start, "![") ||
				strings.HasPrefix(start, "<!--") ||
				strings.HasPrefix(start, "- [") && strings.HasSuffix(start, ")") {
				continue
			}
			if n := utf8.RuneCountInString(line); n > maxColumns {
				t.Errorf("%s:%d has %d columns, want %d at most", filepath.Base(file), i+1, n, maxColumns)
			}
		}
	}
}
