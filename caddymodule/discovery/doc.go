// Package discovery holds the guest modules of Caddy that find the peers of the backplane: edgerelay.discovery.<name>.
// In a Caddyfile, <name> is a directive of the block backplane.
//
// A discovery of your own takes one file like dns.go in a Go module of your own, and an `xcaddy build --with` that
// names it. The module implements [backplane.Discoverer]. Provision checks the settings and touches nothing outside the
// process: `caddy validate` provisions, too. Discovery returns the value that finds peers; it runs once the
// configuration is current, and across reloads as long as its Key stays the same.
package discovery

import (
	"fmt"
)

// endpoint returns scheme and port of a node's URL, with the defaults filled in.
func endpoint(scheme, defaultScheme string, port int) (string, int, error) {
	if scheme == "" {
		scheme = defaultScheme
	}
	defaultPorts := map[string]int{"http": 80, "https": 443}
	if defaultPorts[scheme] == 0 {
		return "", 0, fmt.Errorf("unknown scheme %q; use http or https", scheme)
	}
	if port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%d is not a port; use 1 to 65535", port)
	}
	if port == 0 {
		port = defaultPorts[scheme]
	}
	return scheme, port, nil
}
