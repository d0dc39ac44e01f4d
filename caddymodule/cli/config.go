package cli

import (
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// loadConfig returns the JSON of a configuration in a file, or on standard input.
func loadConfig(file, adapter string) ([]byte, error) {
	silence()
	if file != "-" {
		if _, err := os.Stat(file); err != nil {
			return nil, unreadable("configuration", file, err)
		}
	}
	text, _, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration %q: %w", file, err)
	}
	return text, nil
}

// silence keeps Caddy's own log lines from standard error, where a command writes progress and one line for an error.
// The output stays the same: Caddy would log a change of it.
func silence() {
	_, _ = caddy.ProvisionContext(&caddy.Config{
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "FATAL"}}}},
	})
}
