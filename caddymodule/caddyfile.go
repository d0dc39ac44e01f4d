package caddymodule

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("edgerelay", parseApp)
	httpcaddyfile.RegisterHandlerDirective("edgerelay", parseHandler)
	httpcaddyfile.RegisterHandlerDirective("edgerelay_demo", parseDemo)
	httpcaddyfile.RegisterDirective("edgerelay_health", parseHealth) // not as a handler: it has a matcher of its own
	// After authentication, before everything that answers requests: the relay takes the upgrades of a site and leaves the
	// rest. Each registration goes right behind request_header, so the last one comes first.
	for _, name := range []string{"edgerelay_demo", "edgerelay_health", "edgerelay"} {
		httpcaddyfile.RegisterDirectiveOrder(name, httpcaddyfile.After, "request_header")
	}
}

// parseApp reads the global option
//
//	edgerelay {
//		channel_layer <kind> …
//		auth <kind> …
//		origins <origin>...
//		unauthenticated close|reject
//		limits { … }
//		drain [<duration>] { … }
//		backplane { … }
//		plugin <name> <file> { … }
//		trace_events <events>|off
//		awx_metrics on|off
//		direct_tls on|off
//	}
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		return nil, d.Err("edgerelay is configured twice")
	}
	d.Next()
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	a := &App{}
	for d.NextBlock(0) {
		if err := a.unmarshalOption(d); err != nil {
			return nil, err
		}
	}
	return httpcaddyfile.App{Name: "edgerelay", Value: caddyconfig.JSON(a, nil)}, nil
}

func (a *App) unmarshalOption(d *caddyfile.Dispenser) (err error) {
	switch name := d.Val(); name {
	case "channel_layer":
		a.ChannelLayerRaw, err = loadGuest(d, "edgerelay.channel_layers.", a.ChannelLayerRaw)
	case "auth":
		a.AuthRaw, err = loadGuest(d, "edgerelay.auth.", a.AuthRaw)
	case "origins":
		origins := d.RemainingArgs()
		if len(origins) == 0 {
			return d.Err("origins needs at least one origin, such as https://awx.example.com")
		}
		a.Origins = append(a.Origins, origins...)
	case "unauthenticated":
		if !d.AllArgs(&a.Unauthenticated) {
			return d.ArgErr()
		}
	case "limits":
		if a.Limits == nil {
			a.Limits = &Limits{}
		}
		err = a.Limits.unmarshal(d)
	case "drain":
		if a.Drain != nil {
			return d.Err("drain is given twice")
		}
		a.Drain = &node.Drain{}
		err = a.Drain.Unmarshal(d)
	case "backplane":
		if a.Backplane != nil {
			return d.Err("backplane is given twice")
		}
		a.Backplane = &Backplane{}
		err = a.Backplane.unmarshal(d)
	case "plugin":
		p := &pluginhost.Plugin{}
		err = p.Unmarshal(d)
		a.Plugins = append(a.Plugins, p)
	case "direct_tls":
		var value string
		if !d.AllArgs(&value) || value != "on" && value != "off" {
			return d.Err("direct_tls is on or off")
		}
		on := value == "on"
		a.DirectTLS = &on
	case "trace_events", "awx_metrics":
		err = a.unmarshalObservation(d)
	default:
		return d.Errf("edgerelay has no option %q; it has channel_layer, auth, origins, unauthenticated, limits, drain, backplane, plugin, trace_events, awx_metrics and direct_tls", name)
	}
	return err
}

// loadGuest reads a module that is named by the next argument.
func loadGuest(d *caddyfile.Dispenser, namespace string, existing json.RawMessage) (json.RawMessage, error) {
	option := d.Val()
	if existing != nil {
		return nil, d.Errf("%s is given twice", option)
	}
	if !d.NextArg() {
		return nil, d.Errf("%s needs a kind", option)
	}
	kind := d.Val()
	if _, err := caddy.GetModule(namespace + kind); err != nil {
		return nil, d.Errf("there is no %s %q in this Caddy", option, kind)
	}
	module, err := caddyfile.UnmarshalModule(d, namespace+kind)
	if err != nil {
		return nil, err
	}
	return caddyconfig.JSONModuleObject(module, "kind", kind, nil), nil
}

// parseHandler reads
//
//	edgerelay [<matcher>] {
//		path <path>...
//	}
func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	if h.NextArg() {
		return nil, h.ArgErr()
	}
	handler := &Handler{}
	for h.NextBlock(0) {
		if h.Val() != "path" {
			return nil, h.Errf("edgerelay has no setting %q here; it has path (everything else belongs into the global option edgerelay)", h.Val())
		}
		paths := h.RemainingArgs()
		if len(paths) == 0 {
			return nil, h.ArgErr()
		}
		handler.Paths = append(handler.Paths, paths...)
	}
	return handler, nil
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
	return &DemoHandler{}, nil
}
