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

// Direct is an [http.RoundTripper] that sends requests of the process itself, not of a site, to one application. The
// host of a request's URL does not select the application. Direct is safe for concurrent use.
// See docs/decisions/uwsgi.md#why-does-auth-awx-ask-uwsgis-socket-and-not-the-site
type Direct struct {
	transport        *Transport
	network, address string
}

// NewDirect returns a Direct for the application at address: host:port, or the path of a Unix socket.
func NewDirect(ctx caddy.Context, network, address string) (*Direct, error) {
	none := int64(0)
	// No disk and no buffering: callers read responses promptly and limit their size.
	t := &Transport{RequestDisk: &none, ResponseDisk: &none, Unbuffered: true}
	if err := t.Provision(ctx); err != nil {
		return nil, err
	}
	return &Direct{t, network, address}, nil
}

// directKey is the context key of the [Direct] that sends a request.
type directKey struct{}

// directContext is the context of a request of the process itself. It is canceled with the context of the client's
// request that caused it. Value hides the URI, variables and addresses of the client's request, which would otherwise
// become the CGI variables of the process's request.
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

// RoundTrip implements [http.RoundTripper]. If X-Forwarded-For is a single address, that address becomes REMOTE_ADDR:
// the process itself wrote the header. Otherwise REMOTE_ADDR is 127.0.0.1.
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

// ParseAddress parses the URL of an application: uwsgi://host:port, or uwsgi+unix:///path for a Unix socket, also
// written as uwsgi+unix//path. ok is false if from has neither scheme.
func ParseAddress(from string) (network, address string, ok bool, err error) {
	from = strings.Replace(from, "uwsgi+unix//", "uwsgi+unix:///", 1)
	if !strings.HasPrefix(from, "uwsgi://") && !strings.HasPrefix(from, "uwsgi+unix:") {
		return "", "", false, nil
	}
	u, err := url.Parse(from)
	// Do not wrap err, which quotes the URL: the URL may contain a secret.
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

var errAddress = errors.New("invalid address of uWSGI's socket; " +
	"use an address such as uwsgi://127.0.0.1:8050 or uwsgi+unix:///run/awx/uwsgi.sock")

var _ http.RoundTripper = (*Direct)(nil)
