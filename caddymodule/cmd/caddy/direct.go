package main

import (
	"path/filepath"
	"slices"
	"strings"
)

// product is the name of the binary in releases and packages.
const product = "edgerelay"

// direct returns the arguments of `caddy edgerelay status` for `edgerelay status`: a binary with the name of the product
// has the relay's commands beside Caddy's. `edgerelay run` is `caddy run`, and `edgerelay version` shows all versions.
// Commands of Caddy have precedence, except version.
func direct(args []string, caddyHas func(name string) bool) []string {
	if len(args) < 2 || strings.TrimSuffix(filepath.Base(args[0]), ".exe") != product {
		return args
	}
	name := args[1]
	switch {
	case strings.HasPrefix(name, "-"), strings.HasPrefix(name, "__"): // a flag; cobra's own commands for completion
		return args
	case name == "help", name == "completion":
		return args
	case name != "version" && caddyHas(name):
		return args
	}
	return slices.Insert(slices.Clone(args), 1, product)
}
