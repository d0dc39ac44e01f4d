package caddymodule

import (
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// siteSchemes are the schemes of sites. Apps that are made of pages, and extensions of browsers, have schemes of their
// own.
var siteSchemes = []string{"https", "http"}

// schemesWithoutOrigin are schemes that no Origin header has: most are of no page, and the others have the origin
// "null".
var schemesWithoutOrigin = []string{"ws", "wss", "ftp", "unix", "uwsgi", "data", "blob", "about", "javascript"}

var validScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// checkOrigins rejects text that no browser sends as its origin, because it would never match.
func checkOrigins(origins []string) error {
	const remedy = "use http or https, as in https://awx.example.com"
	for _, o := range origins {
		if o == "*" {
			continue
		}
		scheme, host, ok := strings.Cut(o, "://")
		if !ok {
			scheme, host = "https", o
		}
		scheme = strings.ToLower(scheme)
		if suggestion := settings.Remedy(scheme, siteSchemes, remedy); suggestion != remedy {
			return fmt.Errorf("edgerelay: origins: invalid origin %q: unknown scheme %q; %s", o, scheme, suggestion)
		}
		if scheme == "file" { // browsers send "null", and some apps "file://"
			return fmt.Errorf("edgerelay: origins: invalid origin %q: pages of files have no host to compare; "+
				"use * for every page, or serve the page by http or https", o)
		}
		if slices.Contains(schemesWithoutOrigin, scheme) {
			return fmt.Errorf("edgerelay: origins: invalid origin %q: browsers send no origin of the scheme %q; %s",
				o, scheme, remedy)
		}
		u, err := url.Parse("https://" + host)
		if !validScheme.MatchString(scheme) || err != nil || u.Host == "" || u.Host != host || o == "null" ||
			checkOriginPort(u) != nil || slices.Contains(siteSchemes, scheme) && checkOriginHost(u) != nil {
			return fmt.Errorf("edgerelay: origins: invalid origin %q; "+
				"use scheme and host without a path, such as https://awx.example.com or https://*.example.com, "+
				"or * for every page", o)
		}
	}
	return nil
}

// checkOriginPort returns an error for a port that no browser sends, of a page of any scheme.
func checkOriginPort(u *url.URL) error {
	if strings.HasSuffix(u.Host, ":") {
		return errors.New("no port behind the colon")
	}
	return settings.CheckURLPort(u.String())
}

// checkOriginHost returns an error for a host that no browser sends for a site. A wildcard stands for whole subdomains.
func checkOriginHost(u *url.URL) error {
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
