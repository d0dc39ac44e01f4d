//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTablesAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	broken := errors.New("broken")
	err := writeTables("echo", dir, func(w io.Writer) error {
		fmt.Fprintln(w, "half a table")
		return broken
	})
	if _, stat := os.Stat(dir); !errors.Is(err, broken) || stat == nil {
		t.Errorf("a run that failed: %v; its folder: %v", err, stat)
	}
	if err := writeTables("echo", dir, func(w io.Writer) error {
		_, err := fmt.Fprint(w, "| a table |\n\n")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil || !strings.HasPrefix(string(text), "# Mode echo, 20") ||
		!strings.HasSuffix(string(text), " loopback.\n\n| a table |\n") {
		t.Errorf("README.md is %q, %v", text, err)
	}
}
