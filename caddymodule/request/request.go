package request

import (
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// clientAddress is the address of the browser as Caddy knows it, behind trusted proxies, too. It is the zero Addr if
// Caddy does not know it, as behind a Unix socket without trusted_proxies_unix.
func ClientAddress(r *http.Request) netip.Addr {
	if s, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		if addr, err := netip.ParseAddr(s); err == nil {
			return addr.Unmap()
		}
	}
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr().Unmap()
}

// original asks of a path what it is, as it stands now and as the client sent it: a rewrite before, such as try_files makes for a
// single-page application, does not hide it.
func MatchOriginal[T any](r *http.Request, what func(path string) (T, bool)) (T, bool) {
	if is, ok := what(r.URL.Path); ok {
		return is, true
	}
	if sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && sent.URL != nil {
		return what(sent.URL.Path)
	}
	var none T
	return none, false
}
