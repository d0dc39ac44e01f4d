package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/caddyserver/xcaddy"
)

// load reads the description of a build. Unknown fields are errors, since xcaddy would silently build something else.
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

// environment returns env with explicit settings for the build, so that the go command consults no other source.
func environment(ctx context.Context, env []string) ([]string, error) {
	proxy, err := goCommand(ctx, "env", "GOPROXY")
	if err != nil {
		return nil, err
	}
	return append(env,
		"GOPROXY="+localFirst(proxy),
		"GOTOOLCHAIN=local", // the installed Go, no download
		"GOWORK=off",        // xcaddy's build is a module of its own
	), nil
}

// localFirst replaces "direct" at the end of a GOPROXY list by "off" and lets every error move on to the next entry.
// xcaddy asks `go get` for our module by path. Before the module is published, a proxy has no answer and "direct"
// would ask the code host; both are fatal. With "off" at the end the go command uses the replacement. A list without
// any proxy stays unchanged, since nothing else could be downloaded then.
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
