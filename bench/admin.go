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

// metric reads one metric of Caddy and adds up its label values.
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
		fields := strings.Fields(rest)
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
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

// ask requests a path of Caddy's admin API and copies the response.
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

// pprof copies a profile from Caddy's pprof endpoint.
func pprof(admin, what string, to io.Writer) error { return ask(admin, "/debug/pprof/"+what, to) }
