package caddymodule

import (
	"encoding/json"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("edgerelay", parseApp)
	httpcaddyfile.RegisterHandlerDirective("edgerelay", parseHandler)
	httpcaddyfile.RegisterHandlerDirective("edgerelay_demo", parseDemo)
	httpcaddyfile.RegisterDirective("edgerelay_health", parseHealth) // not as a handler: parseHealth reads the matcher
	// After authentication and before all handlers that answer requests: the relay serves a site's upgrades and leaves
	// the rest. Each registration goes right behind request_header, so the last registration comes first.
	for _, name := range []string{"edgerelay_demo", "edgerelay_health", "edgerelay"} {
		httpcaddyfile.RegisterDirectiveOrder(name, httpcaddyfile.After, "request_header")
	}
}

// parseApp reads `edgerelay { … }`, the global option.
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // before any error, which names the line
	if existing != nil {
		return nil, d.Err("edgerelay is configured twice; merge the blocks")
	}
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	a := &App{}
	if err := settings.Read(d, "edgerelay", a); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "edgerelay", Value: caddyconfig.JSON(a, nil)}, nil
}

// ReadSetting implements [settings.Reader] for guest modules and plugins, and rejects a second drain or backplane.
func (a *App) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	switch d.Val() {
	case "channel_layer":
		a.ChannelLayerRaw, err = readGuest(d, "edgerelay.channel_layers", a.ChannelLayerRaw)
	case "auth":
		a.AuthRaw, err = readGuest(d, "edgerelay.auth", a.AuthRaw)
	case "plugin":
		p := &pluginhost.Plugin{}
		err = p.ReadBlock(d)
		a.Plugins = append(a.Plugins, p)
	case "plugin_key":
		var key *pluginhost.SigningKey
		key, err = pluginhost.ReadSigningKey(d)
		a.PluginKeys = append(a.PluginKeys, key)
	case "history":
		h := &History{}
		err = h.ReadBlock(d)
		a.History = append(a.History, h)
	case "drain":
		return a.Drain != nil, rejectRepeated(d, a.Drain != nil)
	case "compression":
		return a.Compression != nil, rejectRepeated(d, a.Compression != nil)
	case "backplane":
		return a.Backplane != nil, rejectRepeated(d, a.Backplane != nil)
	default:
		return false, nil
	}
	return true, err
}

// rejectRepeated returns an error if the setting at which d stands has been given before.
func rejectRepeated(d *caddyfile.Dispenser, given bool) error {
	if given {
		return d.Errf("%s is given twice; remove one", d.Val())
	}
	return nil
}

// readGuest reads a guest module, whose name is the next argument.
func readGuest(d *caddyfile.Dispenser, namespace string, existing json.RawMessage) (json.RawMessage, error) {
	option := d.Val()
	if existing != nil {
		return nil, d.Errf("%s is given twice; remove one", option)
	}
	if !d.NextArg() {
		return nil, d.Errf("%s needs a kind; use one of %s", option, strings.Join(guestNames(namespace), ", "))
	}
	kind := d.Val()
	if _, err := caddy.GetModule(namespace + "." + kind); err != nil {
		known := guestNames(namespace)
		return nil, d.Errf("unknown %s %q; %s", option, kind,
			settings.Remedy(kind, known, "use one of "+strings.Join(known, ", ")))
	}
	module, err := caddyfile.UnmarshalModule(d, namespace+"."+kind)
	if err != nil {
		return nil, err
	}
	return caddyconfig.JSONModuleObject(module, "kind", kind, nil), nil
}

// parseHandler reads `edgerelay [<matcher>] { … }`.
func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	if h.NextArg() {
		return nil, h.ArgErr()
	}
	handler := &Handler{}
	return handler, settings.Read(h.Dispenser, "the directive edgerelay", handler)
}

// parseHealth reads
//
//	edgerelay_health [<matcher>]
func parseHealth(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	matcher, given, err := h.MatcherToken()
	if err != nil {
		return nil, err
	}
	if !given {
		if h.Val() != "edgerelay_health" {
			return nil, h.Errf("edgerelay_health takes a matcher such as /healthz, not %q", h.Val())
		}
		matcher = caddy.ModuleMap{"path": h.JSON(caddyhttp.MatchPath{"/health"})}
	}
	if h.NextArg() || h.NextBlock(0) {
		return nil, h.ArgErr()
	}
	return h.NewRoute(matcher, &HealthHandler{}), nil
}

// parseDemo reads `edgerelay_demo`.
func parseDemo(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	if h.NextArg() || h.NextBlock(0) {
		return nil, h.ArgErr()
	}
	handler := &DemoHandler{}
	if admin, ok := h.Option("admin").(*caddy.AdminConfig); ok {
		if handler.Admin = admin.Listen; admin.Disabled {
			handler.Admin = "off"
		}
	}
	return handler, nil
}
