package main

import (
	"context"
	"os/exec"
	"regexp"
	"strings"
)

// buildFlags returns xcaddy's own flags for the go command, and a version for the linker. xcaddy replaces the module by
// a folder, so the go command knows no version; see caddymodule/node/version.go. An empty version is not passed.
func buildFlags(module, version string) string {
	link := "-w -s"
	if version != "" {
		link += " -X " + module + "/node.stamped=" + version
	}
	return "-ldflags '" + link + "' -trimpath -tags nobadger,nomysql,nopgx"
}

// describe is the form of versions of `git describe` that commit accepts.
var describe = regexp.MustCompile(`^v?[0-9a-f][0-9A-Za-z.+-]*$`)

// commit names the commit of the current folder after the last release: v1.2.3, v1.2.3-5-gabc1234, v1.2.3-dirty for
// changed files, or devel-abc1234 before the first release. It returns "" outside of a repository.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--match", "v[0-9]*", "--always", "--dirty").Output()
	version := strings.TrimSpace(string(out))
	if err != nil || !describe.MatchString(version) {
		return ""
	}
	if !strings.HasPrefix(version, "v") {
		return "devel-" + version
	}
	return version
}
