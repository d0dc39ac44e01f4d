package main

import (
	"slices"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// A binary named edgerelay has the relay's commands and Caddy's.
func TestDirect(t *testing.T) {
	caddyHas := func(name string) bool {
		_, found := caddycmd.Commands()[name]
		return found
	}
	for in, want := range map[string]string{
		"/usr/bin/edgerelay status --json":  "/usr/bin/edgerelay edgerelay status --json",
		"edgerelay plugin list":             "edgerelay edgerelay plugin list",
		"edgerelay stauts":                  "edgerelay edgerelay stauts", // the relay's error suggests status
		"edgerelay version":                 "edgerelay edgerelay version",
		"edgerelay edgerelay status":        "edgerelay edgerelay status",
		"edgerelay run --config Caddyfile":  "edgerelay run --config Caddyfile",
		"edgerelay reload":                  "edgerelay reload",
		"edgerelay list-modules":            "edgerelay list-modules",
		"edgerelay help":                    "edgerelay help",
		"edgerelay --help":                  "edgerelay --help",
		"edgerelay completion bash":         "edgerelay completion bash",
		"edgerelay __complete edgerelay st": "edgerelay __complete edgerelay st",
		"edgerelay":                         "edgerelay",
		"caddy status":                      "caddy status",
		"/usr/bin/caddy edgerelay status":   "/usr/bin/caddy edgerelay status",
	} {
		if got := direct(strings.Fields(in), caddyHas); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s becomes %s, want %s", in, strings.Join(got, " "), want)
		}
	}
}
