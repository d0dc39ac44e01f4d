package channels

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// Change is a change of a client's groups that a message of the client asks for.
type Change struct {
	// Group is the template of the group. {message.room} is the member "room" of the message: a string, a number, or a
	// list of them for several groups.
	Group Template
	// When are members that the message must have, with their values as JSON.
	When []Constant
}

// messagePrefix begins the names of placeholders that stand for members of a client's message.
const messagePrefix = "message."

// OfMessage reports whether a placeholder's value comes from a client's message.
func OfMessage(name string) bool { return strings.HasPrefix(name, messagePrefix) }

// authorizeTimeout bounds the authorization and the subscription of the groups that one message asks for.
const authorizeTimeout = 10 * time.Second

// Bind returns the template with the values of all placeholders but those of a client's message.
func (t Template) Bind(lookup func(name string) []string) (Template, error) {
	bound := Template{source: t.source, parts: []string{t.parts[0]}}
	for i := 1; i < len(t.parts); i += 2 {
		if OfMessage(t.parts[i]) {
			bound.parts = append(bound.parts, t.parts[i], t.parts[i+1])
			continue
		}
		values := lookup(t.parts[i])
		if len(values) != 1 || values[0] == "" {
			return Template{}, ErrNoValue
		}
		bound.parts[len(bound.parts)-1] += values[0] + t.parts[i+1]
	}
	return bound, nil
}

// reauthorizeAfter is the time after which a message makes the authorizer decide again about the groups that the client
// has. Rechecks leave a client alone whose groups change at that moment, so that no client can escape them by messages.
const reauthorizeAfter = time.Minute

// changes are the changes of a client's groups, with the values of the client's handshake.
type changes struct {
	join, leave []Template
	// own are the groups of the route.
	own []string
	// decided has the time of the authorizer's last decision for each group that is not granted.
	decided map[string]time.Time
}

// ResolveChanges returns the targets of a client whose messages change its groups. own are the groups of the route.
func (m *Messages) ResolveChanges(own []relay.Subscription, lookup func(name string) []string) (*Targets, error) {
	c := &changes{decided: map[string]time.Time{}}
	now := time.Now()
	for i := range own {
		c.own = append(c.own, own[i].Group)
		if !own[i].Granted {
			c.decided[own[i].Group] = now
		}
	}
	for list, from := range map[*[]Template][]Change{&c.join: m.Join, &c.leave: m.Leave} {
		for _, change := range from {
			bound, err := change.Group.Bind(lookup)
			if err != nil {
				return nil, err
			}
			*list = append(*list, bound)
		}
	}
	return &Targets{messages: m, changes: c}, nil
}

// subscribe changes the client's groups as its message asks for. Messages that ask for nothing are dropped.
func (c *Client) subscribe(m *Messages, text bool, message []byte) {
	r := c.route
	targets := c.targets.of(m)
	if targets == nil { // the reload has changed what only a handshake can tell
		c.close(relay.CloseRestart, RemovedReason)
		return
	}
	normal, err := pyjson.Normalize(nil, message)
	if !text || err != nil || len(normal) == 0 || normal[0] != '{' {
		r.Stats.Malformed.Add(1)
		c.close(CloseInvalid, "a message must be a JSON object")
		return
	}
	leave := named(m.Leave, targets.changes.leave, normal)
	join := named(m.Join, targets.changes.join, normal)
	if len(leave)+len(join) == 0 {
		r.Stats.Dropped.Add(1)
		return
	}
	if c.change(targets.changes, join, leave) {
		r.Stats.Accepted.Add(1)
	}
}

// change joins groups, after the authorizer's permission, and leaves others. It reports success; otherwise the client
// is being closed, and has the groups that it had.
func (c *Client) change(state *changes, join, leave []string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), authorizeTimeout)
	defer cancel()
	leave = slices.DeleteFunc(leave, func(g string) bool { return slices.Contains(state.own, g) })
	join = slices.DeleteFunc(join, func(g string) bool {
		_, has := state.decided[g]
		return has || slices.Contains(leave, g) || slices.Contains(state.own, g)
	})
	if most := c.session.Limits().GroupsPerConnection; most > 0 && state.count(join, leave) > most {
		c.route.Stats.Refused.Add(1) // before auth is asked about each of them
		c.close(relay.ClosePolicy, "too many groups")
		return false
	}
	now := time.Now()
	for g, decided := range state.decided {
		if now.Sub(decided) >= reauthorizeAfter && !slices.Contains(leave, g) {
			join = append(join, g)
		}
	}
	var subs []relay.Subscription
	var denied []string
	for _, g := range join {
		switch sub, err := c.session.Authorize(ctx, g, false); {
		case err == nil:
			subs = append(subs, sub)
		case errors.Is(err, relay.ErrDenied):
			denied = append(denied, g)
		default: // the client tries again
			c.route.Stats.Failed.Add(1)
			c.close(relay.CloseTryLater, "authorization is unavailable")
			return false
		}
	}
	if len(denied) > 0 { // one line for each message, which may ask for any number
		c.route.Stats.Refused.Add(uint64(len(denied)))
		c.route.log.Info("groups of a client's message denied", "route", c.route.Path, "count", len(denied),
			"group", denied[0], "user", c.session.Identity().Name)
		leave = append(leave, denied...)
	}
	change, err := c.session.Amend(ctx, subs, leave)
	switch {
	case errors.As(err, new(relay.TooManyGroupsError)):
		c.route.Stats.Refused.Add(1)
		c.close(relay.ClosePolicy, "too many groups")
		return false
	case errors.Is(err, relay.ErrClosed):
		return false
	case err != nil:
		c.route.log.Warn("subscription delayed by the channel layer", "route", c.route.Path, "error", err)
	}
	for i := range subs {
		state.decided[subs[i].Group] = now
	}
	for g := range state.decided { // a recheck may have ended some
		if !slices.Contains(change.Current, g) {
			delete(state.decided, g)
		}
	}
	return true
}

// count returns the number of groups of a client that joins and leaves some.
func (s *changes) count(join, leave []string) int {
	n := len(s.own) + len(join)
	for g := range s.decided {
		if !slices.Contains(s.own, g) && !slices.Contains(leave, g) {
			n++
		}
	}
	return n
}

// named returns the valid group names that the changes make of a message in normal form. bound are the changes'
// templates for the client.
func named(list []Change, bound []Template, message []byte) (groups []string) {
	for i, change := range list {
		if !change.applies(message) {
			continue
		}
		names, err := bound[i].Expand(func(name string) []string {
			return memberTexts(memberOf(message, strings.TrimPrefix(name, messagePrefix)))
		})
		if err != nil {
			continue
		}
		for _, n := range names {
			if relay.CheckGroup(n) == nil && !slices.Contains(groups, n) {
				groups = append(groups, n)
			}
		}
	}
	return groups
}

// applies reports whether a message has the values of all conditions.
func (c *Change) applies(message []byte) bool {
	for _, when := range c.When {
		want, err := pyjson.Normalize(nil, when.Value)
		if err != nil || string(memberOf(message, when.Name)) != string(want) {
			return false
		}
	}
	return true
}

// memberOf returns the value of an object's member, nil if there is none.
func memberOf(object []byte, member string) []byte {
	names := []name{{member, string(pyjson.AppendString(nil, member))}}
	var place [1]span
	if !findMembers(object, names, place[:]) || !place[0].found() {
		return nil
	}
	return place[0].of(object)
}

// memberTexts returns the text of a string or a number, or those of a list; nil for anything else.
func memberTexts(raw []byte) []string {
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' {
		list = []json.RawMessage{raw}
	} else if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	texts := []string{}
	for _, value := range list {
		var text string
		switch {
		case len(value) == 0:
			return nil
		case value[0] == '"':
			if json.Unmarshal(value, &text) != nil {
				return nil
			}
		case value[0] == '-' || value[0] >= '0' && value[0] <= '9':
			text = string(value)
		default:
			return nil
		}
		texts = append(texts, text)
	}
	return texts
}
