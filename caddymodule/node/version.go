package node

import (
	"runtime/debug"
	"strings"
	"sync"
)

// stamped is the version that a build without version information of its own passes to the linker:
//
//	go build -ldflags "-X github.com/edgerelay/edgerelay/caddymodule/node.stamped=v1.2.3" …
//
// `make build` passes the commit, since xcaddy replaces the module by a folder, and the container image passes its
// build argument VERSION, since its build has no .git. All other builds get the version from the go command.
var stamped string

const (
	modulePath = "github.com/edgerelay/edgerelay"
	// folderVersion is the version that the go command invents for a module that a folder replaces.
	folderVersion = "v0.0.0-00010101000000-000000000000"
	// unreleased is the version of a build that knows neither a release nor a commit.
	unreleased = "devel"
)

// Version returns the versions of the relay and of Go in this binary. Without build info, Relay is "unknown".
var Version = sync.OnceValue(func() (v struct{ Relay, Go string }) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		v.Relay = "unknown"
		return v
	}
	v.Relay, v.Go = relayVersion(info, stamped), info.GoVersion
	return v
})

// relayVersion returns the version of the relay in a binary with this build info:
//
//	v1.2.3                       a release, by goreleaser or as a dependency (xcaddy --with …@v1.2.3)
//	v1.2.4-0.20260102…-abcdef…   a commit, as the go command names it; "+dirty" if files were changed
//	v1.2.3 of example.com/fork   a fork, by a replacement
//	devel-abcdef123456           a commit without a release before it
//	devel                        a folder without a commit
func relayVersion(info *debug.BuildInfo, stamped string) string {
	if stamped != "" {
		return stamped
	}
	if info.Main.Path == modulePath {
		return mainVersion(info)
	}
	for _, m := range info.Deps {
		if m.Path != modulePath {
			continue
		}
		switch {
		case m.Replace == nil:
			return moduleVersion(m.Version)
		case moduleVersion(m.Replace.Version) == unreleased:
			return unreleased
		default:
			return m.Replace.Version + " of " + m.Replace.Path
		}
	}
	return "unknown"
}

// mainVersion returns the version of a binary whose main package is in this module.
func mainVersion(info *debug.BuildInfo) string {
	if v := moduleVersion(info.Main.Version); v != unreleased {
		return v
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		return unreleased
	}
	version := unreleased + "-" + revision[:min(12, len(revision))]
	if settings["vcs.modified"] == "true" {
		version += "+dirty"
	}
	return version
}

// moduleVersion returns a version of the go command, or unreleased if the version says nothing.
func moduleVersion(version string) string {
	if version == "" || strings.HasPrefix(version, folderVersion) || version == "(devel)" {
		return unreleased
	}
	return version
}

// logStart logs the version, once per process.
func (n *Node) logStart() {
	if !n.startLogged.Swap(true) {
		n.Log.Info("relay started", "version", Version().Relay)
	}
}
