//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// profileMemory writes Caddy's heap profile and the runtime's memory statistics to the plan's directory.
func (s *session) profileMemory(when string) error {
	dir := s.plan.profiles
	if dir == "" || s.run.admin == "" {
		return nil
	}
	kind := "plain"
	if s.tls {
		kind = "tls"
	}
	for suffix, what := range map[string]string{
		"heap.pprof": "heap", "memstats.txt": "heap?debug=1", "goroutines.txt": "goroutine?debug=1",
	} {
		name := fmt.Sprintf("%s-%s-%s-%d.%s", s.sys.name, when, kind, s.clients, suffix)
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("write profile: %w", err)
		}
		err = pprof(s.run.admin, what, f)
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// profile records Caddy's CPU profile during a row, into the plan's directory. The row's values include the cost of
// profiling: a percent or two of CPU, and some memory.
func (s *session) profile(r *row) (wait func() error) {
	dir := s.plan.profiles
	if dir == "" || s.run.admin == "" {
		return func() error { return nil }
	}
	name := strings.ReplaceAll(fmt.Sprintf("%s-%s-%d-%d.pprof", r.System, r.Kind, r.Clients, r.Size), " ", "-")
	done := make(chan error, 1)
	go func() {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			done <- fmt.Errorf("write profile: %w", err)
			return
		}
		defer f.Close()
		done <- pprof(s.run.admin, fmt.Sprintf("profile?seconds=%.0f", max(1, s.plan.seconds)), f)
	}()
	return func() error { return <-done }
}
