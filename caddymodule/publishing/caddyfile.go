package publishing

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

func init() {
	// RegisterHandlerDirective would parse the path as a matcher.
	httpcaddyfile.RegisterDirective("edgerelay_publish", parsePublish)
	httpcaddyfile.RegisterDirectiveOrder("edgerelay_publish", httpcaddyfile.After, "request_header")
}

// parsePublish reads `edgerelay_publish [@<matcher>] [<path>] { … }`.
func parsePublish(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	handler := &Handler{}
	var matcher caddy.ModuleMap
	more := h.NextArg()
	if more && strings.HasPrefix(h.Val(), "@") {
		h.Prev()
		var err error
		if matcher, _, err = h.MatcherToken(); err != nil {
			return nil, err
		}
		more = h.NextArg()
	}
	if more {
		if handler.Path = h.Val(); !strings.HasPrefix(handler.Path, "/") || strings.Contains(handler.Path, "*") {
			return nil, h.Errf("edgerelay_publish: invalid path %q; use a path such as %s, or a named matcher",
				handler.Path, defaultPath)
		}
	}
	if h.NextArg() {
		return nil, h.ArgErr()
	}
	if err := settings.Read(h.Dispenser, "edgerelay_publish", handler); err != nil {
		return nil, err
	}
	return h.NewRoute(matcher, handler), nil
}

// ReadSetting implements [settings.Reader] for key.
func (h *Handler) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	if d.Val() != "key" {
		return false, nil
	}
	k := &Key{}
	h.Keys = append(h.Keys, k)
	return true, k.ReadBlock(d)
}

// ReadBlock reads `key <name> <secret> { … }`.
func (k *Key) ReadBlock(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&k.Name, &k.Secret) {
		return d.Err("edgerelay_publish: key needs a name and a secret, as in: key shop {env.SHOP_KEY}, " +
			"with 'groups orders-*' in its block")
	}
	return settings.Read(d, "key", k)
}
