package plugins

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/plugins/internal/loosejson"
)

// Differences describes how b differs from a, for people: for JSON objects and arrays one line for each member that
// differs, with its path, else the first position that differs. It returns at most limit lines and a line for the
// rest, and nil for equal payloads.
func Differences(a, b []byte, limit int) []string {
	if bytes.Equal(a, b) {
		return nil
	}
	d := differences{limit: limit}
	if loosejson.Valid(a) && loosejson.Valid(b) {
		d.compare("", a, b)
		if len(d.lines) == 0 {
			return []string{"only the space between tokens differs"}
		}
	} else {
		d.add("%s", cutAtDifference(a, b))
	}
	if d.more > 0 {
		d.lines = append(d.lines, fmt.Sprintf("and %d more", d.more))
	}
	return d.lines
}

// differences collects lines up to a limit, and counts the rest.
type differences struct {
	lines []string
	limit int
	more  int
}

func (d *differences) add(format string, args ...any) {
	if len(d.lines) == d.limit {
		d.more++
		return
	}
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// compare compares two JSON values at a path.
func (d *differences) compare(path string, a, b []byte) {
	if loosejson.Same(a, b) {
		return
	}
	if x, ok := loosejson.Members(a); ok {
		if y, ok := loosejson.Members(b); ok {
			d.compareMembers(path, x, y)
			return
		}
	}
	if x, ok := loosejson.Elements(a); ok {
		if y, ok := loosejson.Elements(b); ok {
			d.compareElements(path, x, y)
			return
		}
	}
	if path == "" {
		d.add("%s", cutAtDifference(a, b))
		return
	}
	d.add("%s: %s", path, cutAtDifference(a, b))
}

func (d *differences) compareMembers(path string, a, b []loosejson.Member) {
	others := make(map[string][]byte, len(b))
	for _, m := range b {
		if _, ok := others[m.Name]; !ok {
			others[m.Name] = m.Value
		}
	}
	before := len(d.lines) + d.more
	seen := make(map[string]bool, len(a))
	for _, m := range a {
		if seen[m.Name] {
			continue
		}
		seen[m.Name] = true
		if other, ok := others[m.Name]; ok {
			d.compare(join(path, m.Name), m.Value, other)
		} else {
			d.add("%s: %s → missing", join(path, m.Name), excerpt(m.Value, 0))
		}
	}
	for _, m := range b {
		if !seen[m.Name] {
			seen[m.Name] = true
			d.add("%s: missing → %s", join(path, m.Name), excerpt(m.Value, 0))
		}
	}
	if len(d.lines)+d.more == before {
		d.add("%s: the members differ in order or number", join(path, "{}"))
	}
}

func (d *differences) compareElements(path string, a, b [][]byte) {
	for i := range max(len(a), len(b)) {
		at := join(path, strconv.Itoa(i))
		switch {
		case i >= len(b):
			d.add("%s: %s → missing", at, excerpt(a[i], 0))
		case i >= len(a):
			d.add("%s: missing → %s", at, excerpt(b[i], 0))
		default:
			d.compare(at, a[i], b[i])
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// cutAtDifference shows two texts around the first position that differs.
func cutAtDifference(a, b []byte) string {
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	return excerpt(a, at) + " → " + excerpt(b, at)
}

// excerpt returns the part of a text around a position, with dots for what is left out.
func excerpt(text []byte, at int) string {
	const before, after = 24, 56
	from, to := max(0, at-before), min(len(text), at+after)
	for from > 0 && !utf8.RuneStart(text[from]) {
		from--
	}
	for to < len(text) && !utf8.RuneStart(text[to]) {
		to++
	}
	s := string(text[from:to])
	if from > 0 {
		s = "…" + s
	}
	if to < len(text) {
		s += "…"
	}
	if s == "" {
		return "nothing"
	}
	return s
}
