package main

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxColumns is the width of prose.
const maxColumns = 120

// mark matches a word that has a meaning in Markdown at the beginning of a line.
var mark = regexp.MustCompile(`^([-+*>|#=]|#+|[0-9]+[.)])`)

// wrap breaks the lines of a text that are wider than maxColumns, each for itself. A line never begins with a mark of
// Markdown.
func wrap(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if utf8.RuneCountInString(line) > maxColumns {
			lines[i] = wrapLine(line)
		}
	}
	return strings.Join(lines, "\n")
}

func wrapLine(line string) string {
	var b strings.Builder
	indent, columns := "", 0
	if strings.HasPrefix(line, "- ") {
		indent = "  "
	}
	for i, word := range strings.Split(line, " ") {
		width := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case columns+1+width > maxColumns && !mark.MatchString(word):
			b.WriteString("\n" + indent)
			columns = len(indent)
		default:
			b.WriteByte(' ')
			columns++
		}
		b.WriteString(word)
		columns += width
	}
	return b.String()
}
