// Package glob matches names of groups with patterns of the configuration. Patterns are prepared once, because events
// are matched one by one.
package glob

import (
	"path"
	"strings"
)

// Pattern is a prepared pattern, in the syntax of [path.Match]. One such as "job_events-*" costs the comparison of a
// prefix. The zero Pattern matches nothing.
type Pattern struct {
	text string
	// parts are the texts between the stars of the pattern; nil: the pattern has other special characters.
	parts []string
}

// Compile prepares a pattern.
func Compile(pattern string) Pattern {
	p := Pattern{text: pattern}
	if !strings.ContainsAny(pattern, `?[\`) {
		p.parts = strings.Split(pattern, "*")
	}
	return p
}

// Literal returns a pattern that matches just the name.
func Literal(name string) Pattern { return Pattern{text: name, parts: []string{name}} }

// Match reports whether the whole name matches. An invalid pattern matches nothing.
func (p *Pattern) Match(name string) bool {
	if p.parts == nil {
		ok, err := path.Match(p.text, name)
		return ok && err == nil && p.text != ""
	}
	first, rest := p.parts[0], p.parts[1:]
	if len(rest) == 0 {
		return name == first
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	last := len(rest) - 1
	for _, part := range rest[:last] {
		if _, name, ok = strings.Cut(name, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(name, rest[last])
}
