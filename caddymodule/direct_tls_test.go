package caddymodule

import (
	"bytes"
	"errors"
	"log/slog"
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

// A failed self-test is logged once, by the first configuration that wants direct TLS. netpoll falls back by itself.
func TestFailedSelfTestIsLogged(t *testing.T) {
	value, err := newNode()
	if err != nil {
		t.Fatal(err)
	}
	n := value.(*node)
	defer func() { _ = n.Destruct() }()
	var log bytes.Buffer
	n.log = slog.New(slog.NewTextHandler(&log, nil))
	n.checkTLS = func() error { return errors.New("rawInput is missing") }
	const line = "direct TLS unavailable; idle connections need more memory"
	if n.applyDirectTLS(false); log.Len() > 0 {
		t.Errorf("logged although direct TLS is off: %s", &log)
	}
	n.applyDirectTLS(true)
	n.applyDirectTLS(true)
	if got := log.String(); strings.Count(got, line) != 1 || !strings.Contains(got, "rawInput is missing") {
		t.Errorf("log %q, want one line with the reason", got)
	}
}
