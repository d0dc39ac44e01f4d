package caddymodule

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// RouteJoin is a group that a client's message asks for.
type RouteJoin struct {
	// Group is the group's name. {message.room} is the member "room" of the message: a string, a number, or a list for
	// several groups. Other placeholders are those of groups. The group needs the permission of auth.
	Group string `json:"group"`
	// When are members that the message must have, as member=value: JSON, or a text that stands for a string.
	When []string `json:"when,omitempty"`
}

// readChanges reads the block of `messages subscribe`.
func (m *RouteMessages) readChanges(d *caddyfile.Dispenser) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word, args := d.Val(), d.RemainingArgs()
		if len(args) == 0 || word != "join" && word != "leave" {
			return d.Errf("messages subscribe: %q cannot be read; %s", word, settings.Remedy(word, []string{"join", "leave"},
				"it has join <group> [<member>=<value>...] and leave <group> [<member>=<value>...], such as: "+
					"join room_{message.room}"))
		}
		change := &RouteJoin{Group: args[0], When: args[1:]}
		if word == "join" {
			m.Join = append(m.Join, change)
		} else {
			m.Leave = append(m.Leave, change)
		}
	}
	return nil
}

// changes returns the changes for the protocol.
func changes(rt *Route, list []*RouteJoin) (out []channels.Change, err error) {
	for _, j := range list {
		var change channels.Change
		if change.Group, err = rt.template(j.Group); err == nil {
			err = checkTemplate(change.Group)
		}
		if err != nil {
			return nil, fmt.Errorf("messages subscribe: %w", err)
		}
		for _, when := range j.When {
			name, value, ok := strings.Cut(when, "=")
			if !ok || name == "" {
				return nil, fmt.Errorf("messages subscribe: invalid condition %q; use <member>=<value>, such as "+
					"action=join", when)
			}
			raw := json.RawMessage(value)
			if !json.Valid(raw) {
				raw = pyjson.AppendString(nil, value)
			}
			change.When = append(change.When, channels.Constant{Name: name, Value: raw})
		}
		out = append(out, change)
	}
	return out, nil
}
