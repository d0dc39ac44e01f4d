package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var release = regexp.MustCompile(`\b\d+\.\d+\.\d+\b`)

// README.md, docs/upgrading.md, docs/channel-layers.md and docs/django.md name the versions of channels_redis that
// `make compat` installs, and the same newest one.
func TestVersionsOfChannelsRedisAgree(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, list, _ := strings.Cut(read("scripts/compat.sh"), "\nredis_versions=")
	list, _, _ = strings.Cut(list, "\n")
	pinned := release.FindAllString(list, -1)
	if len(pinned) < 3 || !strings.Contains(list, "newest") {
		t.Fatalf("scripts/compat.sh installs %s", list)
	}
	lines := map[string]string{}
	for name, begin := range map[string]string{
		"README.md": "| channels_redis |", "docs/upgrading.md": "| channels_redis |",
		"docs/channel-layers.md": "The premise of [histories](history.md)",
	} {
		_, rest, ok := strings.Cut(read(name), "\n"+begin)
		if !ok {
			t.Fatalf("%s has no line %q", name, begin)
		}
		lines[name], _, _ = strings.Cut(rest, "make compat")
	}
	newest := release.FindAllString(lines["README.md"], -1)
	want := append(slices.Clone(pinned), newest[len(newest)-1])
	for name, line := range lines {
		if got := release.FindAllString(line, -1); !slices.Equal(got, want) {
			t.Errorf("%s names channels_redis %v, want %v", name, got, want)
		}
	}
	for _, version := range want {
		if !strings.Contains(read("docs/django.md"), version) {
			t.Errorf("docs/django.md has no result for channels_redis %s", version)
		}
	}
}
