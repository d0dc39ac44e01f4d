//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// metric reads one figure without labels from Caddy's metrics.
func metric(admin, name string) (float64, error) {
	var text strings.Builder
	if err := ask(admin, "/metrics", &text); err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.Lines(text.String()) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:]), 64)
		if err != nil {
			return 0, fmt.Errorf("read metric %s: %w", name, err)
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}

// ask copies what Caddy's admin API answers.
func ask(admin, path string, to io.Writer) error {
	c := http.Client{Timeout: 2 * time.Minute}
	res, err := c.Get("http://" + admin + path)
	if err != nil {
		return fmt.Errorf("ask Caddy for %s: %w", path, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("refused %s by Caddy: %s", path, res.Status)
	}
	if _, err := io.Copy(to, res.Body); err != nil {
		return fmt.Errorf("read Caddy's %s: %w", path, err)
	}
	return nil
}

// pprof copies what Caddy's pprof endpoint answers.
func pprof(admin, what string, to io.Writer) error { return ask(admin, "/debug/pprof/"+what, to) }
