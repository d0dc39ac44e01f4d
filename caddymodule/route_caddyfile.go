package caddymodule

import (
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

// ReadSetting implements [settings.Reader] for routes.
func (h *Handler) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	if d.Val() != "route" {
		return false, nil
	}
	rt := &Route{}
	if !d.Args(&rt.Path) {
		return true, d.Err("route needs a path, such as: route /ws/chat/{room}/, and a block in braces")
	}
	h.Routes = append(h.Routes, rt)
	return true, settings.Read(d, "route "+rt.Path, rt)
}

// ReadSetting implements [settings.Reader].
func (rt *Route) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	switch d.Val() {
	case "auth":
		rt.AuthRaw, err = readGuest(d, "edgerelay.auth", rt.AuthRaw)
		return true, err
	case "on":
		on := &RouteRule{}
		rt.On = append(rt.On, on)
		return true, on.read(d)
	case "first":
		if rt.First == nil {
			rt.First = &RouteFirst{}
		}
		return true, rt.First.read(d)
	case "function":
		if rt.Function != nil {
			return true, rejectRepeated(d, true)
		}
		rt.Function = &RouteFunction{}
		return true, rt.Function.read(d)
	case "hold":
		if rt.Hold != nil {
			return true, rejectRepeated(d, true)
		}
		rt.Hold = &RouteHold{}
		return true, rt.Hold.read(d)
	case "messages":
		if rt.Messages != nil {
			return true, rejectRepeated(d, true)
		}
		rt.Messages = &RouteMessages{}
		return true, rt.Messages.read(d)
	}
	return false, nil
}

// read reads
//
//	on <type> [text|value|binary <member>|json [<member>...]|plugin <name>|constant <text>|ignore] {
//		json [<member>...]
//		set <name> <JSON>
//	}
func (on *RouteRule) read(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Err("on needs a type and a form, such as: on chat.message text message")
	}
	if on.Type = args[0]; len(args) > 1 {
		if err := on.setForm(d, args[1], args[2:]); err != nil {
			return err
		}
	}
	var before []string // constants before the members
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		args := d.RemainingArgs()
		switch {
		case word == "set" && len(args) != 2:
			return d.Errf("on %s: set takes a name and JSON, such as: set kind `\"order\"`", on.Type)
		case word == "set" && on.Form == "":
			before = append(before, args[0]+":="+args[1])
		case word == "set":
			on.Set = append(on.Set, &RouteSet{Name: args[0], Value: args[1]})
		case on.Form != "":
			return d.Errf("on %s: the form %s is given already; %q is not a setting; %s", on.Type, on.Form, word,
				settings.Remedy(word, []string{"set"}, "only set is"))
		case len(before) > 0 && (word != "json" || len(args) == 0):
			return d.Errf("on %s: set before %s needs json with members", on.Type, word)
		default:
			if err := on.setForm(d, word, append(before, args...)); err != nil {
				return err
			}
		}
	}
	if on.Form == "" && len(before) > 0 {
		return on.setForm(d, "json", before)
	}
	return nil
}

func (on *RouteRule) setForm(d *caddyfile.Dispenser, form string, args []string) error {
	if _, ok := forms[form]; !ok {
		return d.Err(on.unknownForm(form).Error())
	}
	if on.Form = form; form == "plugin" {
		on.Plugin = strings.Join(args, " ")
		return nil
	}
	on.Members = args
	return nil
}

// read reads one of
//
//	first text <text>
//	first fetch <url> [<path>] { … }
//	first history <events>
//	first presence
func (f *RouteFirst) read(d *caddyfile.Dispenser) error {
	const usage = "first takes text <text>, fetch <url> [<path>], history <events> or presence"
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Err(usage)
	}
	if kinds := []string{"text", "fetch", "history", "presence"}; !slices.Contains(kinds, args[0]) {
		return d.Errf("first: invalid kind %q; %s", args[0], settings.Remedy(args[0], kinds, usage))
	}
	switch kind, values := args[0], args[1:]; {
	case kind == "text" && f.Text != "" || kind == "fetch" && f.Fetch != nil || kind == "history" && f.History > 0:
		return d.Errf("first %s is given twice; remove one", kind)
	case kind == "text" && len(values) == 1:
		f.Text = values[0]
	case kind == "fetch" && (len(values) == 1 || len(values) == 2):
		f.Fetch = &RouteFetch{URL: values[0]}
		if len(values) == 2 {
			f.Fetch.Path = values[1]
		}
		return settings.Read(d, "first fetch", f.Fetch)
	case kind == "history" && len(values) == 1:
		n, err := strconv.Atoi(values[0])
		if err != nil || n < 1 || n > maxFirstHistory {
			return d.Errf("first history: invalid number %q; use 1 to %d", values[0], maxFirstHistory)
		}
		f.History = n
	case kind == "presence" && len(values) == 0:
		f.Presence = true
	default:
		return d.Err(usage)
	}
	return nil
}

// read reads
//
//	messages ignore|refuse
//	messages backend <url> { … }
//	messages subscribe {
//		join <group> [<member>=<value>...]
//		leave <group> [<member>=<value>...]
//	}
//	messages publish <type> [<member>|text <member>|json [<member>...]|binary <member>] {
//		text <member>
//		json [<member>...]
//		binary <member>
//		to <group>...
//		set <name> <JSON or text>
//		others
//	}
func (m *RouteMessages) read(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 0:
		return d.Err("messages needs an action: ignore, refuse, publish <type>, subscribe or backend <url>")
	case !slices.Contains(messageActions, args[0]):
		return d.Err(unknownAction(args[0]).Error())
	case args[0] == "backend":
		m.Action, m.Backend = args[0], &RouteBackend{}
		return m.Backend.read(d, args[1:])
	case args[0] != "publish" && len(args) > 1:
		return d.Errf("messages %s takes no further values", args[0])
	}
	switch m.Action = args[0]; m.Action {
	case "publish":
	case "subscribe":
		return m.readChanges(d)
	default:
		return nil
	}
	if len(args) < 2 {
		return d.Err("messages publish needs a type, such as: messages publish chat.message json message")
	}
	m.Type = args[1]
	if args = args[2:]; len(args) == 1 && args[0] != "json" {
		m.Text = args[0]
	} else if len(args) > 0 {
		if err := m.setForm(d, args[0], args[1:]); err != nil {
			return err
		}
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := m.setForm(d, d.Val(), d.RemainingArgs()); err != nil {
			return err
		}
	}
	if !m.JSON && m.Text == "" && m.Binary == "" {
		m.Text = "message"
	}
	return nil
}

// setForm reads a setting of the block, of which the first may stand in the line.
func (m *RouteMessages) setForm(d *caddyfile.Dispenser, word string, args []string) error {
	switch {
	case word == "json":
		m.JSON, m.Members = true, args
	case word == "text" && len(args) == 1:
		m.Text = args[0]
	case word == "binary" && len(args) == 1:
		m.Binary = args[0]
	case word == "to" && len(args) > 0:
		m.To = append(m.To, args...)
	case word == "others" && len(args) == 0:
		m.Others = true
	case word == "set" && len(args) == 2:
		m.Set = append(m.Set, &RouteSet{Name: args[0], Value: args[1]})
	default:
		return d.Errf("messages publish %s: %q cannot be read; %s", m.Type, word, settings.Remedy(word,
			[]string{"json", "text", "binary", "to", "set", "others"}, "it has json [<member>...], text <member>, "+
				"binary <member>, to <group>..., set <name> <value> and others"))
	}
	return nil
}
