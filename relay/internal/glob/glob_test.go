package glob

import (
	"path"
	"strings"
	"testing"
)

// A prepared pattern matches the names that path.Match does.
func FuzzMatch(f *testing.F) {
	for _, pattern := range []string{"job_*", "*", "a*b*c", "**", "a?c", "[a-c]*", "*-*-1", `a\*`} {
		f.Add(pattern, "job_events-1")
		f.Add(pattern, "abc")
		f.Add(pattern, "")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if strings.Contains(name, "/") || strings.ContainsFunc(pattern, func(r rune) bool { return r == '/' || r > 126 }) {
			return // no group has these
		}
		want, err := path.Match(pattern, name)
		if err != nil {
			return
		}
		if p := Compile(pattern); p.Match(name) != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, name, !want, want)
		}
	})
}

func TestLiteral(t *testing.T) {
	p := Literal("a*")
	if !p.Match("a*") || p.Match("ab") {
		t.Error("a literal is a pattern")
	}
	if zero := (Pattern{}); zero.Match("") || zero.Match("a") {
		t.Error("the zero pattern matches")
	}
}
