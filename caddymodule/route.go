package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// Route serves the WebSockets of a path like a consumer of Django Channels: clients are in groups, and rules map the
// groups' events to frames.
type Route struct {
	// Path is the path, with parameters such as /ws/chat/{room}/ and wildcards. It matches with and without a slash at the
	// end, and in upper and lower case.
	Path string `json:"path"`
	// Auth authenticates the route's clients and authorizes their groups. Default: auth of the global option.
	AuthRaw json.RawMessage `json:"auth,omitempty" caddy:"namespace=edgerelay.auth inline_key=kind" caddyfile:"<kind> …"`
	// Groups are the groups of each client. {room} is a parameter of the path, {user} the user's id, {user.team} a member
	// of the user's profile, such as a claim of a token; a list makes several groups. Caddy's placeholders may be used,
	// such as {http.request.uri.query.room}. The route grants groups without placeholders, and those of {user} and its
	// members. All other groups need the permission of auth.
	Groups []string `json:"groups,omitempty" caddyfile:"<group>..."`
	// Authorize asks auth about every group, also about those that the route would grant: a group of the staff, for
	// example. Default: off.
	Authorize bool `json:"authorize,omitempty" caddyfile:"on|off"`
	// On are the rules that map events to frames, one for each type. Events of other types make no frame.
	On []*RouteRule `json:"on,omitempty" caddyfile:"<type> <form> …"`
	// First is the first frame of each client, before all events: a text, the response of the site, or earlier events.
	// Default: none.
	First *RouteFirst `json:"first,omitempty" caddyfile:"text|fetch|history …"`
	// Messages is what becomes of the clients' messages. Default: ignore.
	Messages *RouteMessages `json:"messages,omitempty" caddyfile:"ignore|refuse|publish|subscribe|backend …"`
	// Function is a plugin that decides about the route's clients and answers their messages. Default: none.
	Function *RouteFunction `json:"function,omitempty" caddyfile:"<plugin> { … }"`
	// Hold lets the site hold its responses to requests that ask for no WebSocket, by GRIP. Default: the site of messages
	// backend may, any other not.
	Hold *RouteHold `json:"hold,omitempty" caddyfile:"<url> { … }"`
	// Subprotocols are the WebSocket subprotocols of the route. The first of the client's that is among them is agreed
	// on. Default:
	// none.
	Subprotocols []string `json:"subprotocols,omitempty" caddyfile:"<name>..."`
	// Unauthenticated is what happens to clients that are not logged in: reject responds with 403, as Daphne does when a
	// consumer closes in connect(); a number opens the WebSocket and closes it with that code, such as 4401, which a page
	// can read. Default: reject.
	Unauthenticated string `json:"unauthenticated,omitempty" caddyfile:"reject|<code>"`
	// Limits bound the clients of this route, besides the relay's limits.
	Limits *RouteLimits `json:"limits,omitempty" caddyfile:"{ … }"`
	// Presence follows which users are in the groups. Default: off.
	Presence *RoutePresence `json:"presence,omitempty" caddyfile:"{ … }"`

	pattern  *channels.Pattern
	groups   []channels.Template
	settings *channels.Settings
	first    *firstFrame
	live     *node.RouteConfig
	auth     clientAuth
	site     *webhttp.Backend // may hold responses; nil: no site may
}

// RouteLimits bound the clients of a route. 0 means the relay's limit.
type RouteLimits struct {
	// MessageRate is the number of messages that a client may send a second. A burst may have five seconds' worth. A
	// client that sends more is closed with 1008. Default: subscribe_rate of the relay's limits.
	MessageRate float64 `json:"message_rate,omitempty" caddyfile:"<messages a second>"`
	// MessageSize is the longest message from a client, in bytes. A longer message closes the connection with 1009.
	// Default: frame_size of the relay's limits.
	MessageSize int `json:"message_size,omitempty" caddyfile:"<size>" min:"1"`
	// Connections bounds the open connections of the route. Further handshakes get 503. Default: no limit of its own.
	Connections int `json:"connections,omitempty" caddyfile:"<number>" min:"1"`
	// ConnectionsPerUser bounds the open connections of one user to the route. Further handshakes get 429. Default: no
	// limit of its own.
	ConnectionsPerUser int `json:"connections_per_user,omitempty" caddyfile:"<number>" min:"1"`
}

// RouteRule maps the events of a type to frames.
type RouteRule struct {
	// Type is the message type, such as "chat.message".
	Type string `json:"type"`
	// Form is the form of the frame: "text" of a member, "json" with members or the whole event, "value" of a member,
	// "binary" of a member, "constant", "plugin" or "ignore". Default, for internal.message only: the text itself.
	Form string `json:"form,omitempty"`
	// Members are the members of the event: one for text, value and binary, any number for json, where new=old renames,
	// and name:=JSON is a constant. For constant, the first is the text of the frame.
	Members []string `json:"members,omitempty"`
	// Plugin is the plugin whose text is the frame.
	Plugin string `json:"plugin,omitempty"`
	// Set are further members of a JSON frame.
	Set []*RouteSet `json:"set,omitempty"`
}

// RouteSet is a constant member of a frame or of a published message.
type RouteSet struct {
	// Name is the name of the member.
	Name string `json:"name"`
	// Value is JSON; in messages, it may be a text with placeholders, which becomes a string.
	Value string `json:"value"`
}

// provision checks the route and adds it to the configuration.
func (rt *Route) provision(ctx caddy.Context, app *App) (err error) {
	err = rt.compile(app)
	if err == nil {
		rt.first, err = rt.First.compile(ctx, app, rt)
	}
	if err != nil {
		return fmt.Errorf("edgerelay: route %s: %w", rt.Path, err)
	}
	key, backend := rt.Path+"\x00"+strings.Join(rt.Groups, " "), rt.backend()
	if rt.Authorize {
		key += "\x00authorize" // clients with granted groups reconnect
	}
	if backend != nil {
		key += "\x00backend" // the clients of a route with another kind of messages reconnect
	}
	if rt.auth, err = app.addAuth(ctx, key, rt.AuthRaw); err != nil {
		return fmt.Errorf("edgerelay: route %s: %w", rt.Path, err)
	}
	if p, err := rt.Presence.compile(ctx, app); err != nil {
		return fmt.Errorf("edgerelay: route %s: presence: %w", rt.Path, err)
	} else if p != nil {
		rt.settings.Presence = p
		if rt.First != nil && rt.First.Presence {
			rt.first.presence = p
		}
	} else if rt.First != nil && rt.First.Presence {
		return fmt.Errorf("edgerelay: route %s: first presence: the route follows no users; add 'presence' to the route",
			rt.Path)
	}
	rt.auth.route = rt
	if rt.Function != nil {
		key += "\x00function " + rt.Function.Plugin
	}
	rt.live = app.node.AddRoute(app.config, key, rt.Path, rt.settings)
	if backend != nil {
		rt.auth.messages = nil // the backend decides before the WebSocket is open, and gets all messages
		if err := backend.provision(ctx, app, rt); err != nil {
			return fmt.Errorf("edgerelay: route %s: messages backend: %w", rt.Path, err)
		}
	}
	if err := rt.provisionHold(ctx, app); err != nil {
		return fmt.Errorf("edgerelay: route %s: hold: %w", rt.Path, err)
	}
	return nil
}

// samePath reports whether another route matches the same requests.
func (rt *Route) samePath(other *Route) bool {
	return strings.EqualFold(strings.TrimSuffix(rt.Path, "/"), strings.TrimSuffix(other.Path, "/"))
}

// isCoveredBy reports whether another route matches all requests of this one.
func (rt *Route) isCoveredBy(other *Route) bool { return other.pattern.Covers(rt.pattern) }

// compile checks all settings and prepares them for connections.
func (rt *Route) compile(app *App) (err error) {
	if rt.pattern, err = channels.ParsePattern(rt.Path); err != nil {
		return err
	}
	if len(rt.Groups) == 0 && rt.backend() == nil && rt.Function == nil && rt.servesSockets() &&
		(rt.Messages == nil || rt.Messages.Action != "subscribe") {
		return fmt.Errorf("groups are missing; name at least one, such as 'groups news'")
	}
	if rt.groups, err = rt.templates("groups", rt.Groups); err != nil {
		return err
	}
	for _, name := range rt.Subprotocols {
		if !httpguts.ValidHeaderFieldName(name) { // both are tokens of HTTP
			return fmt.Errorf("subprotocols: invalid name %q; use letters, digits, '-', '_' and '.'", name)
		}
	}
	if f := rt.First; f != nil && rt.backend() != nil && (f.Fetch != nil || f.History > 0 || f.Presence) {
		return errors.New("first: a route with messages backend has 'first text' only; let the site answer OPEN with the " +
			"frame")
	}
	var rules []channels.Rule
	for _, on := range rt.On {
		rule, err := on.rule(app)
		if err != nil {
			return err
		}
		rules = append(rules, rule)
	}
	rules = rt.Function.addRule(rules)
	if rt.settings, err = channels.NewSettings(rules); err != nil {
		return err
	}
	if err = rt.Function.compile(app, rt); err != nil {
		return err
	}
	rt.settings.Groups = rt.groups
	if rt.settings.UnauthenticatedCode, err = closeCode(rt.Unauthenticated); err != nil {
		return err
	}
	if err := rt.Limits.apply(rt.settings); err != nil {
		return err
	}
	if rt.Messages != nil {
		rt.settings.Messages, err = rt.Messages.compile(rt)
	}
	rt.settings.Claims = channels.GrantClaims(slices.Concat(rt.groups, rt.settings.Messages.To)...)
	return err
}

// closeCode reads the setting unauthenticated; 0 stands for reject.
func closeCode(text string) (int, error) {
	if text == "" || text == "reject" {
		return 0, nil
	}
	code, err := strconv.Atoi(text)
	if err != nil || code != relay.CloseNormal && code != relay.ClosePolicy && (code < 3000 || code > 4999) {
		return 0, fmt.Errorf("unauthenticated: invalid value %q; use reject, or a close code such as 4401", text)
	}
	return code, nil
}

// apply checks the limits and sets them.
func (l *RouteLimits) apply(s *channels.Settings) error {
	if l == nil {
		return nil
	}
	if !(l.MessageRate >= 0 && l.MessageRate <= math.MaxInt32) || l.MessageSize < 0 || l.Connections < 0 ||
		l.ConnectionsPerUser < 0 {
		return errors.New("limits: a limit is a positive number, or 0 for the relay's own")
	}
	s.MessageRate, s.MessageSize = l.MessageRate, l.MessageSize
	s.Connections, s.ConnectionsPerUser = l.Connections, l.ConnectionsPerUser
	return nil
}

// templates parses templates for group names.
func (rt *Route) templates(setting string, sources []string) (list []channels.Template, err error) {
	for _, source := range sources {
		t, err := rt.template(source)
		if err == nil {
			err = t.Check()
		}
		if err == nil {
			err = checkTemplate(t)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		list = append(list, t)
	}
	return list, nil
}

// checkTemplate returns an error for a template of a group's name that becomes none, whatever the values are.
func checkTemplate(t channels.Template) error {
	if len(t.Names()) == 0 {
		return relay.CheckGroup(t.String())
	}
	shortest, err := t.Render(func(string, string) (string, error) { return "x", nil })
	if err == nil {
		err = relay.CheckGroup(shortest)
	}
	if err != nil {
		return fmt.Errorf("%q becomes no group's name: %w", t, err)
	}
	return nil
}

// grants reports whether the route itself grants the groups of a template.
func (rt *Route) grants(t channels.Template) bool { return t.Granted() && !rt.Authorize }

// template parses a template with the route's placeholders.
func (rt *Route) template(source string) (channels.Template, error) {
	t, err := channels.ParseTemplate(source)
	if err != nil {
		return t, err
	}
	for _, name := range t.Names() {
		if !rt.knows(name) {
			return t, fmt.Errorf("{%s} in %q is no parameter of the path; write {%s} into the path, or use {user} or a "+
				"placeholder of Caddy", name, source, name)
		}
	}
	return t, nil
}

// knows reports whether a placeholder has a meaning in the route.
func (rt *Route) knows(name string) bool {
	return channels.OfUser(name) || slices.Contains(rt.pattern.Params(), name) || strings.Contains(name, ".")
}

// forms are the forms of frames by their names.
var forms = map[string]channels.Form{
	"ignore": channels.Ignore, "text": channels.Text, "json": channels.JSON, "value": channels.Value,
	"binary": channels.Binary, "plugin": channels.Payload, "constant": channels.Fixed,
}

// unknownForm is the error for a form that is none.
func (on *RouteRule) unknownForm(form string) error {
	return fmt.Errorf("on %s: invalid form %q; %s", on.Type, form, settings.Remedy(form,
		slices.Sorted(maps.Keys(forms)), "use text, json, value, binary, plugin, constant or ignore"))
}

// rule returns the rule for the protocol.
func (on *RouteRule) rule(app *App) (channels.Rule, error) {
	rule := channels.Rule{Type: on.Type}
	if on.Type == "" {
		return rule, fmt.Errorf("on: name a type, such as chat.message")
	}
	if on.Form == "" {
		if on.Type != channels.InternalMessage {
			return rule, fmt.Errorf("on %s: add a form: text <member>, json, value <member>, binary <member>, "+
				"plugin <name>, constant <text> or ignore", on.Type)
		}
		rule.Form = channels.Payload
		return rule, nil
	}
	form, ok := forms[on.Form]
	if !ok {
		return rule, on.unknownForm(on.Form)
	}
	rule.Form = form
	if on.Form == "plugin" {
		var err error
		if rule.Applies, err = app.groupsOfPlugin(on.Plugin); err != nil {
			return rule, fmt.Errorf("on %s: %w", on.Type, err)
		}
	}
	if form == channels.Fixed {
		if len(on.Members) != 1 {
			return rule, fmt.Errorf("on %s: write the frame's text, such as 'on %s constant started'", on.Type, on.Type)
		}
		rule.Fixed = on.Members[0]
		return rule, nil
	}
	for _, n := range on.Members {
		if name, value, ok := strings.Cut(n, ":="); ok {
			rule.Members = append(rule.Members, channels.Member{New: name, Constant: json.RawMessage(value)})
			continue
		}
		rule.Members = append(rule.Members, members([]string{n})...)
	}
	for _, s := range on.Set {
		rule.Constants = append(rule.Constants, channels.Constant{Name: s.Name, Value: json.RawMessage(s.Value)})
	}
	return rule, nil
}

// plugin returns the settings of a plugin, nil if there is none of that name.
func (a *App) plugin(name string) *pluginhost.Plugin {
	for _, p := range a.Plugins {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// groupsOfPlugin returns the function that tells which groups a plugin processes.
func (a *App) groupsOfPlugin(name string) (func(group string) bool, error) {
	if p := a.plugin(name); p != nil {
		return func(group string) bool {
			return slices.ContainsFunc(p.Groups, func(pattern string) bool { return plugins.MatchGroup(pattern, group) })
		}, nil
	}
	if name == "" {
		return nil, errors.New("name the plugin, such as 'plugin redact'")
	}
	return nil, fmt.Errorf("there is no plugin %q; add 'plugin %s <file>' to the global option edgerelay", name,
		name)
}

// members reads names of members, which may have the form new=old.
func members(names []string) (list []channels.Member) {
	for _, n := range names {
		renamed, old, ok := strings.Cut(n, "=")
		if !ok {
			old = renamed
		}
		list = append(list, channels.Member{New: renamed, Old: old})
	}
	return list
}
