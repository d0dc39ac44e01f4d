package caddymodule

import (
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// originSchemes are the schemes of origins: those of sites, of browsers' extensions, and of the frameworks that make apps
// of pages. Any other scheme is a typing error.
var originSchemes = []string{
	"https", "http", "chrome-extension", "moz-extension", "safari-web-extension", "capacitor", "ionic", "tauri", "app",
}

// checkOrigins rejects text that no browser sends as its origin, because it would never match.
func checkOrigins(origins []string) error {
	for _, o := range origins {
		if o == "*" {
			continue
		}
		scheme, host, ok := strings.Cut(o, "://")
		if !ok {
			scheme, host = "https", o
		}
		u, err := url.Parse("https://" + host)
		switch {
		case !slices.Contains(originSchemes, strings.ToLower(scheme)) && scheme != "" && ok:
			return fmt.Errorf("edgerelay: origins: invalid origin %q: unknown scheme %q; %s", o, scheme,
				settings.Remedy(scheme, originSchemes, "use http or https, as in https://awx.example.com"))
		case scheme == "" || err != nil || u.Host == "" || u.Host != host || o == "null" || checkOriginHost(u) != nil:
			return fmt.Errorf("edgerelay: origins: invalid origin %q; "+
				"use scheme and host without a path, such as https://awx.example.com or https://*.example.com, "+
				"or * for every page", o)
		}
	}
	return nil
}

// checkOriginHost returns an error for a host that no browser sends. A wildcard stands for whole subdomains.
func checkOriginHost(u *url.URL) error {
	if strings.HasSuffix(u.Host, ":") {
		return errors.New("no port behind the colon")
	}
	if err := settings.CheckURLPort(u.String()); err != nil {
		return err
	}
	return settings.CheckHost(strings.TrimPrefix(u.Hostname(), "*."))
}

// allowsOrigin reports whether the page that sends the request may use the relay.
func allowsOrigin(origins []string, r *http.Request) bool {
	scheme, hosts := request.PublicOrigin(r)
	return ws.Origins(origins).Allow(r, scheme, hosts...)
}

// originError names the rejected origin and the site, for the log.
func originError(r *http.Request) error {
	scheme, hosts := request.PublicOrigin(r)
	site := strings.Join(hosts, " or ")
	if scheme != "" {
		site = scheme + "://" + site
	}
	return errors.New("origin " + r.Header.Get("Origin") + " is not " + site + " and not among the configured origins")
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
