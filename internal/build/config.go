package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/caddyserver/xcaddy"
)

// load reads a build's description. A misspelt field is an error: xcaddy would
// otherwise build something else without a word.
func load(file string) (xcaddy.Builder, error) {
	var builder xcaddy.Builder
	f, err := os.Open(file)
	if err != nil {
		return builder, fmt.Errorf("reading the build's description: %w", err)
	}
	defer f.Close()
	decoder := json.NewDecoder(f)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&builder); err != nil {
		return builder, fmt.Errorf("%s is not the JSON of xcaddy.Builder: %w", file, err)
	}
	if builder.CaddyVersion == "" {
		return builder, fmt.Errorf("%s names no caddy_version: write the one of go.mod", file)
	}
	return builder, nil
}

// environment is env with what the build needs said plainly, and nothing that
// would let the go command look elsewhere.
func environment(ctx context.Context, env []string) ([]string, error) {
	proxy, err := goCommand(ctx, "env", "GOPROXY")
	if err != nil {
		return nil, err
	}
	return append(env,
		"GOPROXY="+localFirst(proxy),
		"GOTOOLCHAIN=local", // the Go that is here, not one downloaded for the build
		"GOWORK=off",        // xcaddy's build is a module of its own
	), nil
}

// localFirst turns a GOPROXY list into one that ends in "off" instead of "direct",
// with every error going on to the next entry. xcaddy asks `go get` for our module
// by path; before it is published, a proxy has no answer and "direct" would ask its
// repository, both fatal. With "off" last the go command turns to the replacement.
// A list without any proxy is left alone: nothing else could be downloaded then.
func localFirst(proxy string) string {
	var kept []string
	for _, entry := range strings.FieldsFunc(proxy, func(r rune) bool { return r == ',' || r == '|' }) {
		switch entry = strings.TrimSpace(entry); entry {
		case "", "direct", "off":
		default:
			kept = append(kept, entry)
		}
	}
	if len(kept) == 0 {
		return proxy
	}
	return strings.Join(append(kept, "off"), "|")
}
