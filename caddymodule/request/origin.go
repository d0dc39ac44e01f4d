package request

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// PublicOrigin returns the site's scheme and hosts as browsers know them. The scheme is empty if a proxy may terminate
// TLS and no trusted proxy names the scheme. A trusted proxy that changed the Host header names the original host.
func PublicOrigin(r *http.Request) (scheme string, hosts []string) {
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

// firstElement returns the first element of a header's list, which the proxy next to the browser has written.
func firstElement(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}
