package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// routeValues are the values of a route's placeholders for one request.
type routeValues struct {
	route  *Route
	params []string
	id     relay.Identity
	caddy  *caddy.Replacer
	claims map[string]json.RawMessage
}

func newRouteValues(rt *Route, params []string, id relay.Identity, r *http.Request) *routeValues {
	p := &routeValues{route: rt, params: params, id: id}
	p.caddy, _ = r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return p
}

// values returns the values of a placeholder, nil if it has none.
func (p *routeValues) values(name string) []string {
	for i, param := range p.route.pattern.Params() {
		if param == name {
			return p.params[i : i+1]
		}
	}
	if name == "user" {
		return []string{p.id.Key}
	}
	if channels.OfUser(name) {
		return claimValues(p.claim(name[len("user."):]))
	}
	if p.caddy == nil {
		return nil
	}
	value, ok := p.caddy.GetString(name)
	if !ok {
		return nil
	}
	return []string{value}
}

// claim returns a member of the user's profile, nil if there is none.
func (p *routeValues) claim(name string) json.RawMessage {
	if p.claims == nil {
		p.claims = map[string]json.RawMessage{}
		_ = json.Unmarshal([]byte(p.id.Profile), &p.claims) // without a profile, there are no claims
	}
	return p.claims[name]
}

// claimValues returns the text of a string or a number, or the texts of a list of those; nil for all other values.
func claimValues(raw json.RawMessage) []string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || list == nil {
		if text, ok := claimText(raw); ok {
			return []string{text}
		}
		return nil
	}
	values := []string{}
	for _, item := range list {
		text, ok := claimText(item)
		if !ok {
			return nil
		}
		values = append(values, text)
	}
	return values
}

func claimText(raw json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil && len(raw) > 0 && raw[0] == '"' {
		return text, true
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil && number != "" {
		return number.String(), true
	}
	return "", false
}

// json returns the JSON value of a template: for a single placeholder of the user, the value as it is, otherwise a
// string.
func (p *routeValues) json(t channels.Template) (json.RawMessage, error) {
	switch name := t.Single(); {
	case name == "user" && p.id.ID != "":
		return json.RawMessage(p.id.ID), nil
	case name != "user" && channels.OfUser(name):
		if raw := p.claim(name[len("user."):]); raw != nil {
			return raw, nil
		}
		return json.RawMessage("null"), nil
	}
	texts, err := t.Expand(p.values)
	if err != nil || len(texts) != 1 {
		return nil, errors.Join(err, fmt.Errorf("%s has no single value", t))
	}
	return json.Marshal(texts[0])
}

// groupError is a group that a client cannot be in.
type groupError struct {
	group string // or the template
	// invalid is set if the name is no group's; otherwise the group was denied, or could not be authorized.
	invalid bool
	err     error
}

func (e *groupError) Error() string { return fmt.Sprintf("group %s: %v", e.group, e.err) }

func (e *groupError) Unwrap() error { return e.err }

// expand returns the groups that a template becomes.
func (p *routeValues) expand(t channels.Template) ([]string, error) {
	names, err := t.Expand(p.values)
	for _, name := range names {
		if err == nil {
			err = relay.CheckGroup(name)
		}
	}
	switch {
	case err == nil:
		return names, nil
	case t.Granted(): // the user lacks a value that the group needs
		return nil, &groupError{t.String(), false, fmt.Errorf("%w: %w", relay.ErrDenied, err)}
	}
	return nil, &groupError{t.String(), true, err}
}

// subscribe returns the subscriptions of a client to the groups of the route, each once.
func (p *routeValues) subscribe(ctx context.Context, h *hub.Hub) (subs []relay.Subscription, err error) {
	seen := map[string]int{}
	for _, t := range p.route.groups {
		names, err := p.expand(t)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			at, repeated := seen[name]
			if repeated && (subs[at].Granted || !p.route.grants(t)) {
				continue
			}
			sub, err := p.permit(ctx, h, t, name)
			if err != nil {
				return nil, &groupError{group: name, err: err}
			}
			if repeated {
				subs[at] = sub
				continue
			}
			seen[name] = len(subs)
			subs = append(subs, sub)
		}
	}
	return subs, nil
}

// permit returns the subscription to a group that a template became: the route grants it, or the authorizer decides.
func (p *routeValues) permit(
	ctx context.Context, h *hub.Hub, t channels.Template, group string,
) (relay.Subscription, error) {
	if !p.route.grants(t) {
		return h.Authorize(ctx, p.id, group)
	}
	sub, err := h.Grant(ctx, p.id, group)
	sub.Granted = true
	return sub, err
}

// targets returns the groups that the client's messages go to, and what is set beside them; nil without any.
func (p *routeValues) targets(m *channels.Messages, subs []relay.Subscription) (*channels.Targets, error) {
	switch m.Action {
	case channels.SubscribeMessages:
		targets, err := m.ResolveChanges(subs, p.values)
		if err != nil {
			return nil, &groupError{"of the client's messages", true, err}
		}
		return targets, nil
	case channels.PublishMessages:
	default:
		return nil, nil
	}
	var groups []string
	if len(m.To) == 0 && len(subs) > 0 {
		groups = []string{subs[0].Group}
	}
	for _, t := range m.To {
		names, err := p.expand(t)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !t.Granted() && !subscribed(subs, name) {
				return nil, &groupError{group: name, err: fmt.Errorf("%w: the client is not in the group that its messages "+
					"go to", relay.ErrDenied)}
			}
			groups = append(groups, name)
		}
	}
	return m.Resolve(groups, p.json)
}

func subscribed(subs []relay.Subscription, group string) bool {
	for i := range subs {
		if subs[i].Group == group {
			return true
		}
	}
	return false
}
