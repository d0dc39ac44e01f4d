package uwsgi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
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
		return nil, withRemedy(err)
	}
	return proxy, proxy.FinalizeUnmarshalCaddyfile(h)
}

// withRemedy replaces the error about a setting that belongs to the transport.
func withRemedy(err error) error {
	_, rest, ok := strings.Cut(err.Error(), "unrecognized subdirective ")
	name, place, _ := strings.Cut(rest, ",")
	if !ok || !slices.Contains(settings.Names(new(Transport)), name) {
		return err
	}
	return fmt.Errorf("edgerelay_uwsgi: %s belongs to the transport; write reverse_proxy in place of edgerelay_uwsgi, and "+
		"%[1]s in a block of 'transport uwsgi' in its block,%s", name, place)
}
