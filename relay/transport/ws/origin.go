package ws

import (
	"net/http"
	"net/url"
	"strings"
)

// Origins lists origins of pages that may connect, in addition to pages of the same host. An entry is an origin such as
// "https://awx.example.com". A host that begins with "*." allows all subdomains, and "*" allows every page.
type Origins []string

// Allow reports whether the page that sends r may connect to a site. Browsers reach the site by scheme, http or https,
// at one of hosts. An empty scheme is not compared, because TLS may end at a proxy. A request without an Origin header
// does not come from a page and is allowed.
func (o Origins) Allow(r *http.Request, scheme string, hosts ...string) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	for _, allowed := range o {
		if allowed == "*" {
			return true
		}
	}
	u, err := url.Parse(values[0])
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" && scheme != "http" || u.Scheme == "http" && scheme != "https" {
		for _, host := range hosts {
			if sameHost(u, host) {
				return true
			}
		}
	}
	for _, allowed := range o {
		if matchOrigin(allowed, u) {
			return true
		}
	}
	return false
}

// sameHost compares the origin's host with the request's. Both may omit the default port.
func sameHost(origin *url.URL, host string) bool {
	if strings.EqualFold(origin.Host, host) {
		return true
	}
	port := map[string]string{"http": ":80", "https": ":443"}[origin.Scheme]
	return port != "" && strings.EqualFold(strings.TrimSuffix(origin.Host, port), strings.TrimSuffix(host, port))
}

func matchOrigin(allowed string, origin *url.URL) bool {
	scheme, host, ok := strings.Cut(allowed, "://")
	if !ok {
		scheme, host = origin.Scheme, allowed
	}
	if !strings.EqualFold(scheme, origin.Scheme) {
		return false
	}
	if sub, ok := strings.CutPrefix(host, "*."); ok {
		return len(origin.Host) > len(sub)+1 && strings.EqualFold(origin.Host[len(origin.Host)-len(sub)-1:], "."+sub)
	}
	return sameHost(origin, host)
}
