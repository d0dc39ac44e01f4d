package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"golang.org/x/net/http/httpguts"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// RouteFunction is a plugin whose hooks on_connect, on_message and on_close serve the clients of the route.
type RouteFunction struct {
	// Plugin is the name of the plugin.
	Plugin string `json:"plugin"`
	// Headers are the headers of the handshake that the function sees. Default: none.
	Headers []string `json:"headers,omitempty" caddyfile:"<name>..."`
}

// read reads `function <plugin> { headers <name>... }`.
func (f *RouteFunction) read(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&f.Plugin) {
		return d.Err("function takes the name of a plugin, such as: function room")
	}
	return settings.Read(d, "function", f)
}

// addRule adds the rule that sends the function's texts as they are, unless the route has its own.
func (f *RouteFunction) addRule(rules []channels.Rule) []channels.Rule {
	own := func(r channels.Rule) bool { return r.Type == channels.InternalMessage }
	if f == nil || slices.ContainsFunc(rules, own) {
		return rules
	}
	return append(rules, channels.Rule{Type: channels.InternalMessage, Form: channels.Payload})
}

// compile checks the settings, and adds to those of the route.
func (f *RouteFunction) compile(app *App, rt *Route) error {
	if f == nil {
		return nil
	}
	p := app.plugin(f.Plugin)
	switch {
	case p == nil:
		return fmt.Errorf("function: there is no plugin %q; add 'plugin %s <file>' to the global option edgerelay",
			f.Plugin, f.Plugin)
	case p.Shadow:
		return fmt.Errorf("function: the plugin %s is a shadow, which has no effect; name another plugin", f.Plugin)
	case rt.Messages != nil:
		return errors.New("function: the function gets the clients' messages; remove the setting messages")
	case rt.First != nil && (rt.First.Fetch != nil || rt.First.History > 0 || rt.First.Presence):
		return errors.New("first: a route with a function has 'first text' only; let on_connect send the frame")
	}
	for i, name := range f.Headers {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("function: headers: invalid name %q; use a header's name, such as Cookie", name)
		}
		f.Headers[i] = strings.ToLower(name)
	}
	patterns := p.Join
	if patterns == nil {
		patterns = p.Groups
	}
	rt.settings.BackendGroup = func(group string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool { return plugins.MatchGroup(pattern, group) })
	}
	return nil
}
