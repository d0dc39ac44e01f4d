package relay_test

import (
	"path"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

func TestValidPattern(t *testing.T) {
	long := strings.Repeat("a", relay.MaxGroupName)
	for pattern, want := range map[string]bool{
		"*": true, "**": true, "job_events-*": true, "job_events-?": true, "[a-z]-1": true, `a[^\]b]*`: true, `a\-1`: true,
		long + "*": true, strings.Repeat("*a", relay.MaxGroupName): true,
		"": false, "[": false, "a[": false, "a b*": false, "{env.GROUPS}": false, "job:*": false, `a\*`: false, "é": false,
		long + "?": false, "/*": false,
	} {
		if got := relay.ValidPattern(pattern); got != want {
			t.Errorf("%q is valid: %v, want %v", pattern, got, want)
		}
		if err := relay.CheckPattern(pattern); (err == nil) != want {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

// FuzzValidPattern: a pattern that matches a group's name is valid.
func FuzzValidPattern(f *testing.F) {
	for _, pattern := range []string{"a*", "[a-z]?", `\a[^\]]`, "[]a]", "[^-a]", "{env.X}"} {
		f.Add(pattern, "ab")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		valid := relay.ValidPattern(pattern) // which panics on no pattern
		if ok, err := path.Match(pattern, name); ok && err == nil && relay.ValidGroup(name) && !valid {
			t.Errorf("%q matches %q and is invalid", pattern, name)
		}
	})
}
