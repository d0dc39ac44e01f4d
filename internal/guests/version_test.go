package guests

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestSDKVersions: the SDKs have one version, wherever it is written.
func TestSDKVersions(t *testing.T) {
	versions := map[string]string{} // of each file, the first one
	for file, pattern := range map[string]string{
		"go/version.go":               `Version = "(.*)"`,
		"rust/Cargo.toml":             `(?m)^version = "(.*)"`,
		"rust/src/lib.rs":             `VERSION: &str = "(.*)"`,
		"assemblyscript/package.json": `"version": "(.*)"`,
		"c/edgerelay.h":               `EV_SDK_VERSION "(.*)"`,
		"c/README.md":                 `/sdk/c/v(.*)/sdk/c\n`,
		"templates/c/README.md":       `/sdk/c/v(.*)/sdk/c\n`,
		"templates/go/go.mod.tmpl":    `/sdk/go v(.*)\n`,
	} {
		text, err := os.ReadFile(filepath.Join(Root, "sdk", file))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s has no version %s", file, pattern)
		}
		versions[file] = string(found[1])
	}
	for file, version := range versions {
		if want := versions["go/version.go"]; version != want {
			t.Errorf("%s has the version %s, go/version.go %s", file, version, want)
		}
	}
	parts := regexp.MustCompile(`EV_SDK_MAJOR (\d+)\n.*MINOR (\d+)\n.*PATCH (\d+)\n`)
	header, err := os.ReadFile(filepath.Join(Root, "sdk", "c", "edgerelay.h"))
	if err != nil {
		t.Fatal(err)
	}
	if m := parts.FindSubmatch(header); m == nil ||
		string(m[1])+"."+string(m[2])+"."+string(m[3]) != versions["c/edgerelay.h"] {
		t.Errorf("the header's numbers differ from its version: %q", m)
	}
}
