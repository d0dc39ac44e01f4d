package uwsgi

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Direct sends requests of the process itself to an application, not on behalf of a site. It is an
// [http.RoundTripper] whose requests may be made for any URL.
// See docs/decisions/uwsgi.md#why-does-auth-awx-ask-uwsgis-socket-and-not-the-site
type Direct struct {
	transport        *Transport
	network, address string
}

// NewDirect returns a Direct for an address of the application, which is host:port or the path of a Unix socket.
func NewDirect(ctx caddy.Context, network, address string) (*Direct, error) {
	none := int64(0)
	// The caller reads responses at once, and bounds what it reads.
	t := &Transport{RequestDisk: &none, ResponseDisk: &none, Unbuffered: true}
	if err := t.Provision(ctx); err != nil {
		return nil, err
	}
	return &Direct{t, network, address}, nil
}

// directKey finds the [Direct] in the context of its requests.
type directKey struct{}

// directContext is the context of a request of the process itself. It ends with the context of the client's request
// for which the process asks, but does not show that request: its URI, variables and addresses are another request's.
type directContext struct {
	context.Context
	direct *Direct
}

// Value implements [context.Context].
func (c directContext) Value(key any) any {
	switch key {
	case directKey{}:
		return c.direct
	case caddyhttp.OriginalRequestCtxKey, caddyhttp.VarsCtxKey, caddy.ReplacerCtxKey, http.LocalAddrContextKey:
		return nil
	}
	return c.Context.Value(key)
}

// RoundTrip implements [http.RoundTripper]. REMOTE_ADDR is X-Forwarded-For, if that is one address: the process
// itself has written it. Otherwise it is this host's.
func (d *Direct) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.WithContext(directContext{r.Context(), d})
	client, err := netip.ParseAddr(r.Header.Get("X-Forwarded-For"))
	if err != nil {
		client = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	return d.transport.RoundTrip(r)
}

// ParseAddress splits an address of an application that is written as a URL: uwsgi://host:port, or uwsgi+unix:///path
// for a Unix socket, also written as uwsgi+unix//path. ok is false if it is not a URL of that kind.
func ParseAddress(from string) (network, address string, ok bool, err error) {
	from = strings.Replace(from, "uwsgi+unix//", "uwsgi+unix:///", 1)
	if !strings.HasPrefix(from, "uwsgi://") && !strings.HasPrefix(from, "uwsgi+unix:") {
		return "", "", false, nil
	}
	u, err := url.Parse(from)
	// Errors do not repeat it: it may hold a secret.
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", true, errAddress
	}
	if u.Scheme == "uwsgi+unix" {
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") {
			return "", "", true, errAddress
		}
		return "unix", u.Path, true, nil
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 || u.Hostname() == "" ||
		strings.Trim(u.Path, "/") != "" {
		return "", "", true, errAddress
	}
	return "tcp", u.Host, true, nil
}

var errAddress = errors.New("this is not the address of uWSGI's socket; " +
	"write it like uwsgi://127.0.0.1:8050 or uwsgi+unix:///run/awx/uwsgi.sock")

var _ http.RoundTripper = (*Direct)(nil)
