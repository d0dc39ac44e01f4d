package node

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// A failed self-test is logged once, by the first configuration that wants direct TLS. netpoll falls back by itself.
func TestFailedSelfTestIsLogged(t *testing.T) {
	value, err := newNode()
	if err != nil {
		t.Fatal(err)
	}
	n := value.(*Node)
	defer func() { _ = n.Destruct() }()
	var log bytes.Buffer
	n.Log = slog.New(slog.NewTextHandler(&log, nil))
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
