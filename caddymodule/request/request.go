// Package request reads from requests that Caddy serves: the client's address, the site's origin, and the path before
// rewrites.
package request

import (
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// ClientAddress returns the browser's address as Caddy determined it, behind trusted proxies too. The result is the
// zero Addr if Caddy does not know the address, as behind a Unix socket without trusted_proxies_unix.
func ClientAddress(r *http.Request) netip.Addr {
	if s, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		if addr, err := netip.ParseAddr(s); err == nil {
			return addr.Unmap()
		}
	}
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr().Unmap()
}

// MatchOriginal applies match to the request's current path and, if that does not match, to the path that the client
// sent. A rewrite, such as the try_files of a single-page application, therefore cannot hide a path.
func MatchOriginal[T any](r *http.Request, match func(path string) (T, bool)) (T, bool) {
	if result, ok := match(r.URL.Path); ok {
		return result, true
	}
	if sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && sent.URL != nil {
		return match(sent.URL.Path)
	}
	var zero T
	return zero, false
}
