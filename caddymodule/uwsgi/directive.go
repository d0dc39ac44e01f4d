package uwsgi

import (
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("edgerelay_uwsgi", parseDirective)
	// Like php_fastcgi: a reverse_proxy for some requests comes before the proxy for all.
	httpcaddyfile.RegisterDirectiveOrder("edgerelay_uwsgi", httpcaddyfile.After, "reverse_proxy")
}

// parseDirective reads `edgerelay_uwsgi`, which is `reverse_proxy` with this transport and its defaults:
//
//	edgerelay_uwsgi [<matcher>] <upstreams>... {
//		<settings of reverse_proxy, but transport>
//	}
func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	if err := checkUpstreams(h.Dispenser); err != nil {
		return nil, err
	}
	proxy := &reverseproxy.Handler{
		TransportRaw: caddyconfig.JSONModuleObject(new(Transport), "protocol", "uwsgi", nil),
	}
	if err := proxy.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return proxy, proxy.FinalizeUnmarshalCaddyfile(h)
}
