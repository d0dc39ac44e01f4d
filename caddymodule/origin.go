package caddymodule

import (
	"errors"
	"iter"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// allowsOrigin reports whether the page that sends the request may use the relay.
func allowsOrigin(origins []string, r *http.Request) bool {
	scheme, hosts := publicOrigin(r)
	return ws.Origins(origins).Allow(r, scheme, hosts...)
}

// originError names the rejected origin and the site, for the log.
func originError(r *http.Request) error {
	scheme, hosts := publicOrigin(r)
	site := strings.Join(hosts, " or ")
	if scheme != "" {
		site = scheme + "://" + site
	}
	return errors.New("origin " + r.Header.Get("Origin") + " is not " + site + " and not among the configured origins")
}

// publicOrigin returns the site's scheme and hosts as browsers know them. The scheme is empty if a proxy may terminate
// TLS and no trusted proxy names the scheme. A trusted proxy that changed the Host header names the original host.
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

// splitList yields the elements of a header's list.
func splitList(list string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for element := range strings.SplitSeq(list, ",") {
			if !yield(strings.TrimSpace(element)) {
				return
			}
		}
	}
}

// firstElement returns the first element of a header's list, which the proxy next to the browser has written.
func firstElement(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}
