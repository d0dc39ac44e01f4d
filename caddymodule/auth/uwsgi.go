package auth

import (
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/uwsgi"
)

// throughUWSGI returns the transport to uWSGI's socket, and the URL for requests, if address is that of such a socket.
// Otherwise the transport is nil, and the URL is the address.
func throughUWSGI(ctx caddy.Context, address string) (to string, transport http.RoundTripper, err error) {
	network, dial, is, err := uwsgi.ParseAddress(address)
	if !is || err != nil {
		return address, nil, err
	}
	if network == "unix" {
		address = "uwsgi+unix://localhost" // becomes the header Host
	}
	transport, err = uwsgi.NewDirect(ctx, network, dial)
	return address, transport, err
}

// splitUWSGI splits the address of an endpoint behind uWSGI's socket into those of the socket and of the path.
func splitUWSGI(address string) (socket, path string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "uwsgi" || u.User != nil || u.Host == "" || u.Fragment != "" {
		return address, ""
	}
	return u.Scheme + "://" + u.Host, u.RequestURI()
}
