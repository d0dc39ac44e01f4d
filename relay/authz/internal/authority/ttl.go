// Package authority has the parts of an authorizer that asks a service about each login and group: a cache whose
// lookups are shared ([Cache]), a queue that shares the concurrent requests fairly ([Queue]), the logins that the
// service has confirmed ([Logins]), and what identifies a login ([CookieKey]).
package authority

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// failureTTL is how long a failed response is kept, so that a service in trouble is not flooded with retries.
const failureTTL = time.Second

// TTL returns how long a response with an error, or nil, is kept if conclusive ones are kept for a time.
func TTL(err error, conclusive time.Duration) time.Duration {
	switch {
	case errors.Is(err, relay.ErrBusy): // the queue may have room the next moment
		return -1
	case err != nil && !errors.Is(err, relay.ErrUnauthenticated):
		return min(failureTTL, conclusive)
	}
	return conclusive
}

// RemoteAddress returns the peer address of a request's connection.
func RemoteAddress(r *http.Request) netip.Addr {
	address, _ := netip.ParseAddrPort(r.RemoteAddr)
	return address.Addr().Unmap()
}
