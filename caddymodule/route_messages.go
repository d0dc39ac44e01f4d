package caddymodule

import (
	"encoding/json"
	"fmt"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// messageActions are the actions of [RouteMessages].
var messageActions = []string{"ignore", "refuse", "publish", "subscribe", "backend"}

// RouteMessages says what becomes of the clients' messages.
type RouteMessages struct {
	// Action is ignore, refuse, publish, subscribe or backend. Default: ignore.
	Action string `json:"action,omitempty"`
	// Backend is the site that answers the messages, for the action backend.
	Backend *RouteBackend `json:"backend,omitempty"`
	// Type is the type of published messages.
	Type string `json:"type,omitempty"`
	// JSON reads text messages as JSON objects.
	JSON bool `json:"json,omitempty"`
	// Members are the members of the client's object to publish; new=old renames. Default: all but type.
	Members []string `json:"members,omitempty"`
	// Text is the member that gets the text of a message as it is.
	Text string `json:"text,omitempty"`
	// Binary is the member that gets the bytes of a binary message.
	Binary string `json:"binary,omitempty"`
	// To are the groups to publish to. Default: the client's first group. With subscribe, they are the groups that clients
	// choose, in which {subscribe} is the value of the member subscribe of the client's JSON object.
	To []string `json:"to,omitempty"`
	// Set are further members of published messages.
	Set []*RouteSet `json:"set,omitempty"`
	// Others withholds the event from the client that sent the message.
	Others bool `json:"others,omitempty"`
	// Join are the groups that messages subscribe to, for subscribe.
	Join []*RouteJoin `json:"join,omitempty"`
	// Leave are the groups that messages leave, for subscribe.
	Leave []*RouteJoin `json:"leave,omitempty"`
}

// unknownAction is the error for an action that is none.
func unknownAction(action string) error {
	return fmt.Errorf("messages: invalid action %q; %s", action,
		settings.Remedy(action, messageActions, "use ignore, refuse, publish, subscribe or backend"))
}

// compile returns the settings for the protocol.
func (m *RouteMessages) compile(rt *Route) (out channels.Messages, err error) {
	switch m.Action {
	case "", "ignore":
		return out, nil
	case "refuse":
		out.Action = channels.RefuseMessages
		return out, nil
	case "backend":
		return out, nil
	case "subscribe":
		out.Action = channels.SubscribeMessages
		if out.Join, err = changes(rt, m.Join); err == nil {
			out.Leave, err = changes(rt, m.Leave)
		}
		if err != nil {
			return out, err
		}
		return out, out.Prepare()
	case "publish":
	default:
		return out, unknownAction(m.Action)
	}
	out = channels.Messages{
		Action: channels.PublishMessages, Type: m.Type, JSON: m.JSON, Members: members(m.Members), Text: m.Text,
		Binary: m.Binary, Others: m.Others,
	}
	if out.To, err = rt.templates("messages: to", m.To); err != nil {
		return out, err
	}
	for _, s := range m.Set {
		member := channels.SetMember{Name: s.Name}
		if member.Value, err = rt.template(s.Value); err != nil {
			if !json.Valid([]byte(s.Value)) {
				return out, fmt.Errorf("messages: set %s: %w", s.Name, err)
			}
			member.Value, err = channels.Template{}, nil
		}
		if len(member.Value.Names()) == 0 {
			if member.Constant = json.RawMessage(s.Value); !json.Valid(member.Constant) {
				return out, fmt.Errorf("messages: set %s: %q is neither JSON nor a text with placeholders", s.Name, s.Value)
			}
		}
		out.Set = append(out.Set, member)
	}
	return out, out.Prepare()
}
