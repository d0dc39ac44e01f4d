//go:build linux

package main

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

func TestMissingProgramNamesItsRemedy(t *testing.T) {
	if _, err := need("no-such-server", "no-such-package"); err == nil ||
		!strings.Contains(err.Error(), "apt-get install -y no-such-package") {
		t.Errorf("error %v", err)
	}
	if _, err := startEdgerelayMemory(t.Context(), setup{caddy: "/nowhere/caddy"}); err == nil ||
		!strings.Contains(err.Error(), "make build") {
		t.Errorf("error %v", err)
	}
}

func TestProcessThatEndsAtOnceSaysWhy(t *testing.T) {
	p, err := start(exec.Command("/bin/sh", "-c", "echo the reason >&2; exit 3"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	err = p.ready(func() error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("error %v", err)
	}
}
