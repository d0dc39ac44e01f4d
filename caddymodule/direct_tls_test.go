package caddymodule

import (
	"strings"
	"testing"
)

func TestDirectTLSCaddyfile(t *testing.T) {
	for line, want := range map[string]string{
		"direct_tls on": `"direct_tls":true`, "direct_tls off": `"direct_tls":false`,
	} {
		config, err := adapt("{\nedgerelay {\nauth none\n" + line + "\n}\n}\n")
		if err != nil || !strings.Contains(string(config), want) {
			t.Errorf("%q becomes %s, %v; want %s", line, config, err, want)
		}
	}
	for _, line := range []string{"direct_tls", "direct_tls yes", "direct_tls on off"} {
		if _, err := adapt("{\nedgerelay {\nauth none\n" + line + "\n}\n}\n"); err == nil || !strings.Contains(err.Error(), "on or off") {
			t.Errorf("%q: %v, want an error with the two values", line, err)
		}
	}
}
