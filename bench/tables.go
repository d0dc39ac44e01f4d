//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// writeTables runs a mode that measures no rows but writes tables. They go to standard output, and with the commit and
// the machine to README.md in dir, bench/results/<date>-<commit>-<mode> if dir is empty. Tables of a run that ends
// with an error are not kept.
func writeTables(mode, dir string, run func(io.Writer) error) error {
	var tables strings.Builder
	if err := run(io.MultiWriter(os.Stdout, &tables)); err != nil {
		return err
	}
	root := moduleRoot()
	name, dirty := commit(root)
	date := time.Now().Format(time.DateOnly)
	if dir == "" {
		dir = filepath.Join(root, "bench", "results", date+"-"+name+"-"+mode)
	}
	if dirty {
		name += " with uncommitted changes"
	}
	m := thisMachine()
	head := fmt.Sprintf("# Mode %s, %s, commit %s\n\n%s, %d cores, %.0f GiB, Linux %s, %s, %s; "+
		"clients on the same cores, loopback.\n\n", mode, date, name, m.CPU, m.Cores, m.MemGiB, m.Kernel, m.OS, m.Go)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the results' directory: %w", err)
	}
	text := strings.TrimRight(head+tables.String(), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	fmt.Fprintln(os.Stderr, "written to", dir)
	return nil
}
