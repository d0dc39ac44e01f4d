package plugins

import "time"

// Onward is the state of an emitted event that has not been through the plugins of its group.
type Onward struct {
	// Source and Sent are the original event's, as in Event.
	Source string
	Sent   time.Time

	audience uint64
	hops     int
	budget   *allowance // that the event shares; may be nil
}

// HandOver makes Run and Resume hand over the events that plugins emit to other groups with plugins: such an event
// becomes an Output with Onward set, and the caller passes it to Continue where it processes the events of that group.
// A slow plugin then does not delay the plugins whose events it gets, and all events of a group keep their order.
// Without HandOver, these events are taken through their plugins at once. Call HandOver before the first event.
// See docs/decisions/plugins.md#why-are-emitted-events-handed-over
func (p *Pipeline) HandOver() { p.handsOver = true }

// homeOf returns the route whose events need not be handed over during the traversal of an event with a route.
func (p *Pipeline) homeOf(rt *route) *route {
	if !p.handsOver {
		return nil
	}
	return rt
}

// enter takes an emitted event to the route of its group, or hands the event over.
func (t *traversal) enter(
	rt *route, ev *Event, to subscribers, hops int, budget *allowance, out []Output,
) []Output {
	if t.home == nil || rt.chain == nil || rt.group == t.home.group {
		return t.walk(rt, 0, ev, to, hops, budget, out)
	}
	return append(out, Output{Group: rt.group, Payload: ev.Payload, Onward: &Onward{
		Source: ev.Source, Sent: ev.Sent, audience: to.audience, hops: hops, budget: budget,
	}})
}

// Continue is Run for an event that has been handed over, with its Onward. group and payload are the Output's.
func (p *Pipeline) Continue(o *Onward, group string, payload []byte, out []Output) (_ []Output, withheld bool) {
	for before := len(out); ; {
		current := p.routes.Load()
		rt := current.find(group)
		t := p.newTraversal(current, rt, before)
		t.budget = o.budget
		ev := Event{Group: rt.group, Payload: payload, Source: o.Source, Sent: o.Sent}
		if out = t.walk(rt, 0, &ev, subscribers{audience: o.audience}, o.hops, o.budget, out); !t.stale {
			return out, t.withheld
		}
		t.giveBack()
		if out = out[:before]; p.routes.Load() == current { // the pipeline is being closed
			return out, false
		}
	}
}
