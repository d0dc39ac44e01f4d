package caddymodule

import (
	"errors"
	"iter"
	"net/http"
	"strings"

	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

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
