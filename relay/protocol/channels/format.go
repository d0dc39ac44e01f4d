package channels

import (
	"errors"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

// ruleSet are the compiled rules of a route.
type ruleSet map[string]*compiledRule

// defaultRule is the rule for internal.message: the text itself.
var defaultRule = &compiledRule{form: Payload}

// compileRules prepares rules.
func compileRules(rules []Rule) (ruleSet, error) {
	set := ruleSet{InternalMessage: defaultRule}
	given := map[string]bool{}
	for i := range rules {
		r := &rules[i]
		if given[r.Type] {
			return nil, errors.New("on " + r.Type + ": the type has two rules; remove one")
		}
		given[r.Type] = true
		c, err := r.compile()
		if err != nil {
			return nil, err
		}
		set[r.Type] = c
	}
	return set, nil
}

// TypeOf returns the message type of an event.
func TypeOf(ev *relay.Event) string {
	if ev.Type == "" {
		return InternalMessage
	}
	return ev.Type
}

// AppendEvent implements [relay.Format].
func (r *Route) AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame) {
	settings := r.settings.Load()
	if settings == nil {
		return dst, relay.NoFrame
	}
	if other := r.items.Load(); other != nil && ev.Type == other.kind {
		r.Stats.Events.Add(1)
		return other.AppendEvent(dst, ev, text)
	}
	rule := settings.rules[TypeOf(ev)]
	if rule == nil {
		if settings.Presence != nil && strings.HasPrefix(ev.Type, presencePrefix) { // A page may want the list only.
			r.Stats.Ignored.Add(1)
			return dst, relay.NoFrame
		}
		r.countUnknown(TypeOf(ev))
		return dst, relay.NoFrame
	}
	payload, frame, err := rule.appendFrame(dst, ev.Group, text)
	switch {
	case err != nil:
		r.countUnrenderable(ev, err)
		return dst, relay.NoFrame
	case frame == relay.NoFrame:
		r.Stats.Ignored.Add(1)
	default:
		r.Stats.Events.Add(1)
	}
	return payload, frame
}

// Try tells what the route makes of an event, and counts nothing: whether the type has a rule, and why the rule cannot
// render the event.
func (r *Route) Try(ev *relay.Event) (known bool, err error) {
	settings := r.settings.Load()
	if settings == nil {
		return false, nil
	}
	if other := r.items.Load(); other != nil && ev.Type == other.kind {
		return true, nil
	}
	rule := settings.rules[TypeOf(ev)]
	if rule == nil {
		return settings.Presence != nil && strings.HasPrefix(ev.Type, presencePrefix), nil
	}
	_, _, err = rule.appendFrame(nil, ev.Group, []byte(ev.Text))
	return true, err
}

// EndLogin implements [relay.Protocol]: the socket closes with 4401, or the code of the route.
func (r *Route) EndLogin(socket relay.Socket) {
	code := CloseUnauthenticated
	if s := r.settings.Load(); s != nil && s.UnauthenticatedCode != 0 {
		code = s.UnauthenticatedCode
	}
	socket.Close(code, "login ended")
}

// EncodeChange implements [relay.Protocol]: clients of routes get no message about their groups.
func (r *Route) EncodeChange(relay.Change) []byte { return nil }

// EncodeResumed implements [relay.HistoryFormat]: the events themselves begin a subscription.
func (r *Route) EncodeResumed(relay.Resumed) []byte { return nil }

// EncodeGap implements [relay.HistoryFormat].
func (r *Route) EncodeGap(relay.Gap) []byte { return nil }

// EncodeWithheld implements [relay.HistoryFormat].
func (r *Route) EncodeWithheld(string, relay.Position) []byte { return nil }

// countUnknown counts an event of a type without a rule, and logs the first of each type.
func (r *Route) countUnknown(kind string) {
	r.Stats.Unrendered.Add(1)
	if first, n := r.Stats.unknown.add(kind); first {
		r.log.Warn("event type without a rule", "route", r.Path, "type", n,
			"remedy", "add 'on "+n+" …' to the route, or 'on "+n+" ignore'")
	}
}

// countUnrenderable counts an event that its rule cannot render, and logs the first of each type.
func (r *Route) countUnrenderable(ev *relay.Event, err error) {
	r.Stats.Unrenderable.Add(1)
	if first, kind := r.Stats.broken.add(TypeOf(ev)); first {
		r.log.Warn("event not rendered", "route", r.Path, "type", kind, "group", ev.Group,
			"error", err, "remedy", "compare the rule 'on "+kind+"' with the emitter's message")
	}
}

var (
	_ relay.Format        = (*Route)(nil)
	_ relay.HistoryFormat = (*Route)(nil)
)
