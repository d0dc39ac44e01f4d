package caddymodule

import (
	"errors"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// allowsOrigin reports whether the page that sends r may use the relay.
func allowsOrigin(origins []string, r *http.Request) bool {
	scheme, hosts := publicOrigin(r)
	return ws.Origins(origins).Allow(r, scheme, hosts...)
}

// originError names both sides of a refused origin.
func originError(r *http.Request) error {
	scheme, hosts := publicOrigin(r)
	site := strings.Join(hosts, " or ")
	if scheme != "" {
		site = scheme + "://" + site
	}
	return errors.New("origin " + r.Header.Get("Origin") + " is not " + site + " and not among the configured origins")
}

// publicOrigin returns how browsers name the site: its scheme, empty if TLS may end in front of us and no trusted proxy
// says so, and its hosts. A trusted proxy may have changed the Host header, and then tells the original one.
func publicOrigin(r *http.Request) (scheme string, hosts []string) {
	hosts = []string{r.Host}
	if r.TLS != nil {
		scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); !trusted {
		return scheme, hosts
	}
	if host := firstElement(r.Header.Get("X-Forwarded-Host")); host != "" {
		hosts = append(hosts, host)
	}
	switch strings.ToLower(firstElement(r.Header.Get("X-Forwarded-Proto"))) {
	case "https", "wss":
		scheme = "https"
	case "http", "ws":
		scheme = "http"
	}
	return scheme, hosts
}

// firstOf is the first element of a list in a header: what the proxy that the browser speaks to has written.
func firstElement(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}
