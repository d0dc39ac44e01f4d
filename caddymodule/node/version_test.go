package node

import (
	"runtime/debug"
	"testing"
)

// The version names the release or the commit, whoever built the binary.
func TestRelayVersion(t *testing.T) {
	caddy := debug.Module{Path: "caddy", Version: "(devel)"} // xcaddy's module
	dep := func(version string, replace *debug.Module) *debug.BuildInfo {
		return &debug.BuildInfo{Main: caddy, Deps: []*debug.Module{
			{Path: "github.com/caddyserver/caddy/v2", Version: "v2.11.9"},
			{Path: "github.com/edgerelay/edgerelay/sdk/go", Version: "v0.2.0"},
			{Path: modulePath, Version: version, Replace: replace},
		}}
	}
	main := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: modulePath, Version: version}, Settings: settings}
	}
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}, {Key: "vcs.modified", Value: modified},
		}
	}
	for _, c := range []struct {
		name    string
		info    *debug.BuildInfo
		stamped string
		want    string
	}{
		{"goreleaser, tag", main("v0.1.0", vcs("false")...), "", "v0.1.0"},
		{
			"go build, commit after a tag", main("v0.1.1-0.20261129200000-0123456789ab+dirty", vcs("true")...), "",
			"v0.1.1-0.20261129200000-0123456789ab+dirty",
		},
		{"go build, Go before 1.24", main("(devel)", vcs("false")...), "", "devel-0123456789ab"},
		{"go build, Go before 1.24, changed files", main("(devel)", vcs("true")...), "", "devel-0123456789ab+dirty"},
		{"go build without .git", main("(devel)"), "", "devel"},
		{"go test", main(""), "", "devel"},
		{"docker build without .git, with VERSION", main("(devel)"), "v0.1.0", "v0.1.0"},
		{"make build", dep(folderVersion, &debug.Module{Path: "/src", Version: "(devel)"}), "v0.1.0-5-g0123456-dirty", "v0.1.0-5-g0123456-dirty"},
		{"xcaddy, module version", dep("v0.1.0", nil), "", "v0.1.0"},
		{"xcaddy, commit", dep("v0.1.1-0.20261129200000-0123456789ab", nil), "", "v0.1.1-0.20261129200000-0123456789ab"},
		{"xcaddy, folder", dep(folderVersion, &debug.Module{Path: "/home/alice/edgerelay", Version: "(devel)"}), "", "devel"},
		{"xcaddy, folder, no version", dep("v0.1.0", &debug.Module{Path: "../edgerelay"}), "", "devel"},
		{
			"xcaddy, fork", dep("v0.1.0", &debug.Module{Path: "github.com/alice/edgerelay", Version: "v0.1.1"}), "",
			"v0.1.1 of github.com/alice/edgerelay",
		},
		{"another program", &debug.BuildInfo{Main: caddy}, "", "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := relayVersion(c.info, c.stamped); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
