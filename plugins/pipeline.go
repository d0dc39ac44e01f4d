package plugins

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// Event is an event that enters the pipeline.
type Event struct {
	Group   string
	Payload []byte
	// Source names the way by which the event reached the node, for the host function event_source; may be empty. An
	// event that a plugin emits has the Source and Sent of its original. An event with SourceHistory is of a replay, see
	// [Pipeline.Replay].
	Source string
	// Sent is the time at which the emitter published the event, zero if unknown.
	Sent time.Time
	// Position is the event's place in the history of its group, zero if there is none. An event that a plugin emits to
	// the same group has the Position of its original, others have none.
	Position Position
	// Hops is the number of events that plugins have made in other groups, or have published, before one of them led to
	// this one, see [Action.Hops]. A plugin that processes an event after too many hops publishes nothing.
	Hops int
}

// Output is an event that leaves the pipeline.
type Output struct {
	Group   string
	Payload []byte
	// Audience has a bit for each subscriber class that gets the event. All bits are set unless a plugin restricts
	// them.
	Audience uint64
	// PerClass tells that a plugin of the group renders payloads: call Render with the Output for each class present
	// instead of sending Payload.
	PerClass bool
	// Generation identifies the modules that classified the subscriptions for which Audience and PerClass hold; 0: the
	// group's subscriptions are not classified. Subscribers of another [Decision].Generation must not get the event.
	Generation uint64
	// Onward is set for an event that has not been through its plugins, see [Pipeline.HandOver]: the caller passes it to
	// Continue.
	Onward *Onward
	// Position is that of the event that the Output is made of, zero in another group than that event's, and for events
	// of ticks unless the plugin says otherwise. The Outputs of an event share it.
	Position Position

	renderers uint64 // the plugins by which the event is rendered, see subscribers
}

// Decision is the plugins' answer to a subscription.
type Decision struct {
	Allow bool
	// Class of the subscriber, 0 to 63.
	Class uint8
	// Generation identifies the modules that decided. When it differs from [Pipeline.Generation], the Decision is
	// outdated.
	Generation uint64
	// Reason of a denial, for the log and the client; may be empty.
	Reason string
	// Plugin is the name of the plugin that denied.
	Plugin string
}

// Pipeline takes events through plugins. Methods are safe for concurrent use. Events of one group keep their
// order if they come from one caller at a time.
type Pipeline struct {
	host *host
	seed maphash.Seed

	routes atomic.Pointer[routes]
	order  atomic.Pointer[[]*plugin] // for readers that must not wait for a change

	onWithheld   atomic.Pointer[func(string, Position)] // may hold nil
	onReclassify atomic.Pointer[func()]                 // may hold nil
	tickHandler  atomic.Pointer[TickHandler]            // may hold nil
	ticks        sync.WaitGroup
	handsOver    bool

	// closing is done once the pipeline is being closed.
	closing context.Context
	stop    context.CancelCauseFunc

	// mu guards the fields below. It is held for the switch from one state to the next, never while a module compiles,
	// a guest runs or a call is drained.
	mu      sync.Mutex
	plugins map[string]*plugin
	closed  bool
}

// OnWithheld calls f with the group and the position of each event that is withheld because a plugin could not process
// it, see [OnErrorWithhold]. Events of replays do not count. The call comes from the goroutine that brought the event:
// f must return quickly and must not call the Pipeline.
func (p *Pipeline) OnWithheld(f func(group string, position Position)) { p.onWithheld.Store(&f) }

// Process takes an event through the plugins of its group and appends the resulting events to out: none if a plugin
// dropped the event, several if a plugin split the event or sent events to other groups. It blocks only as long as the
// guests' fuel lasts, keeps no argument, and does not allocate for an event that passes. Outputs of the event's own
// group come in order. An output may share the payload's bytes.
func (p *Pipeline) Process(ev Event, out []Output) []Output {
	out, _ = p.run(&ev, out)
	return out
}

// Run is like Process, and reports whether the event, or an event emitted for it, was withheld, see [OnErrorWithhold].
func (p *Pipeline) Run(ev Event, out []Output) (_ []Output, withheld bool) { return p.run(&ev, out) }

// run is Run for a copy of the event, which changes on its way.
func (p *Pipeline) run(ev *Event, out []Output) (_ []Output, withheld bool) {
	current := p.routes.Load()
	rt := current.find(ev.Group)
	if len(rt.steps) == 0 {
		return append(out, unchanged(ev)), false
	}
	ev.Group = rt.group // the caller's may change later
	payload := ev.Payload
	for before := len(out); ; {
		to := subscribers{audience: allClasses}
		var res result
		at := rt.pass(ev, &to, &res)
		switch {
		case at == len(rt.steps) && to.audience == 0:
			return out, false
		case at == len(rt.steps):
			out = append(out, Output{})
			o := &out[len(out)-1] // filled in place: a copy would cost as much as all of this function
			o.Group, o.Payload, o.Audience, o.Generation = ev.Group, ev.Payload, to.audience, to.generation
			o.PerClass, o.renderers, o.Position = to.renderers != 0, to.renderers, ev.Position
			return out, false
		}
		t := p.newTraversal(current, rt, before)
		if out = t.handle(rt, at, ev, to, &res, ev.Hops, nil, out); !t.stale {
			return out, t.withheld
		}
		// A plugin on the way was removed meanwhile: the current routes decide.
		out = out[:before]
		t.giveBack()
		latest := p.routes.Load()
		if latest == current { // the pipeline is being closed
			return out, false
		}
		current, rt, ev.Payload = latest, latest.find(ev.Group), payload
	}
}

// maxEmissions bounds how many emitted events are followed for one event, even if none of them leaves the pipeline.
const maxEmissions = 256

// traversal is the way of one event, and of the events emitted for it, through the pipeline.
type traversal struct {
	routes      *routes
	outputLimit int                     // length of the output slice, including outputs of earlier events
	onWithheld  *func(string, Position) // may be nil
	origin      *route                  // of the event
	home        *route                  // events for other groups are handed over; nil: they are not
	budget      *allowance              // of the events emitted for it; nil before the first one

	resumed  []resumedEvents
	stale    bool // a plugin was removed meanwhile; the result does not count
	withheld bool
}

// newTraversal returns the traversal of an event with a route. outputs is the length of the output slice.
func (p *Pipeline) newTraversal(rs *routes, rt *route, outputs int) traversal {
	return traversal{
		routes: rs, onWithheld: p.onWithheld.Load(), origin: rt,
		outputLimit: outputs + maxOutputs, home: p.homeOf(rt),
	}
}

func (t *traversal) withhold(group string, position Position) {
	t.withheld = true
	if t.onWithheld != nil {
		(*t.onWithheld)(group, position)
	}
}

// walk takes an event through the steps of its route, beginning with the given one, and appends the outputs. The event
// and its subscribers change on the way. budget is nil for the original event, whose calls have their own budgets only.
// See docs/decisions/plugins.md#why-is-emit-resolved-inside-process
func (t *traversal) walk(
	rt *route, from int, ev *Event, to subscribers, hops int, budget *allowance, out []Output,
) []Output {
	if from == len(rt.steps) {
		return t.appendOutput(ev, to, out)
	}
	var res result
	s := &rt.steps[from]
	if s.shadow { // compared with Pass
		if !ev.isReplay() {
			s.observe(rt.hash, ev, hops, &result{audience: allClasses})
		}
		return t.walk(rt, from+1, ev, to, hops, budget, out)
	}
	_ = s.event(rt.hash, ev, hops, budget, &res) // on_error has decided
	return t.handle(rt, from, ev, to, &res, hops, budget, out)
}

// pass takes an event through the steps of its route as long as they decide without further effects. It returns the
// step whose result handle must take, or the number of steps. Most events need no traversal.
func (rt *route) pass(ev *Event, to *subscribers, res *result) (at int) {
	for i := range rt.steps {
		s := &rt.steps[i]
		if s.shadow {
			s.observe(rt.hash, ev, ev.Hops, &result{audience: allClasses})
			continue
		}
		_ = s.event(rt.hash, ev, ev.Hops, nil, res) // on_error has decided
		if res.removed || res.verdict == Drop || len(res.emits) > 0 || len(s.shadows) > 0 || res.resumed != nil {
			return i
		}
		to.passed(s.plugin, res.by)
		if res.verdict == Replace {
			ev.Payload = res.payload
		}
		*to = to.only(res.audience)
	}
	return len(rt.steps)
}

// handle continues with the result of a step.
func (t *traversal) handle(
	rt *route, at int, ev *Event, to subscribers, res *result, hops int, budget *allowance, out []Output,
) []Output {
	if res.resumed != nil { // the events of ticks that came first
		out = t.resume(rt, at, res.resumed, out)
	}
	if res.removed || t.stale {
		t.stale = true
		return out
	}
	s := &rt.steps[at]
	if !ev.isReplay() {
		for _, shadow := range s.shadows {
			shadow.observe(rt.hash, ev, hops, res)
		}
	}
	to.passed(s.plugin, res.by)
	if len(res.emits) > 0 {
		return t.split(rt, at, ev, to, res, hops, budget, out)
	}
	if res.verdict == Drop {
		if res.withheld {
			t.withhold(rt.group, ev.Position)
		}
		return out
	}
	if res.verdict == Replace {
		ev.Payload = res.payload
	}
	return t.walk(rt, at+1, ev, to.only(res.audience), hops, budget, out)
}

// split continues with the event's own output first, and then with the events that step at emitted.
func (t *traversal) split(
	rt *route, at int, ev *Event, to subscribers, res *result, hops int, budget *allowance, out []Output,
) []Output {
	if res.verdict != Drop {
		own := *ev
		if res.verdict == Replace {
			own.Payload = res.payload
		}
		out = t.walk(rt, at+1, &own, to.only(res.audience), hops, budget, out)
	}
	for _, e := range res.emits {
		if t.stale {
			return out
		}
		if ev.isReplay() && e.group != "" {
			continue // the group has had its event when the original was live
		}
		left := t.emissionBudget(ev)
		if len(out) >= t.outputLimit || left.spent() || left.emissions.Add(-1) < 0 {
			t.dropExcess(rt, at, ev, &e)
			continue
		}
		emitted := Event{Group: ev.Group, Payload: e.payload, Source: ev.Source, Sent: ev.Sent}
		if e.group == "" {
			emitted.Position = ev.Position
			if !e.position.IsZero() {
				emitted.Position = e.position.entry()
			}
			out = t.walk(rt, at+1, &emitted, to.only(e.audience), hops, t.budget, out)
			continue
		}
		// An audience refers to the classes of one group, so another group starts with the emission's own audience.
		emitted.Group = e.group
		out = t.enter(t.routes.find(e.group), &emitted, subscribers{audience: e.audience}, hops+1, t.budget, out)
	}
	return out
}

// dropExcess drops an emitted event because its original has become too many. The group learns of it as of a withheld
// event.
func (t *traversal) dropExcess(rt *route, at int, ev *Event, e *emission) {
	s := &rt.steps[at]
	s.excess.Add(1)
	switch {
	case s.spec.Load().OnError == OnErrorDrop:
	case e.group == "":
		t.withhold(rt.group, ev.Position)
	default:
		t.withhold(e.group, Position{})
	}
}

// appendOutput appends an event that has passed all steps.
func (t *traversal) appendOutput(ev *Event, to subscribers, out []Output) []Output {
	if len(out) >= t.outputLimit || to.audience == 0 {
		return out
	}
	return append(out, Output{
		ev.Group, ev.Payload, to.audience, to.renderers != 0, to.generation, nil, ev.Position, to.renderers,
	})
}

// subscribers is for whom an event is, as the modules on its way have decided.
type subscribers struct {
	audience   uint64 // as in Output
	generation uint64 // as in Output
	// renderers identifies the plugins with on_class that the event has been through, in order; 0 if there are none. Such
	// a plugin may leave to on_class what clients must not get.
	renderers uint64
}

// passed notes that the event has been through a module of a plugin.
func (s *subscribers) passed(p *plugin, m *module) {
	if m.hooks&(OnClass|OnSubscribe) == 0 {
		return
	}
	if m.hooks&OnClass != 0 {
		s.renderers = mixGeneration(s.renderers, p.number)
	}
	s.generation = m.classify(s.generation)
}

// only returns the subscribers that are also in an audience.
func (s subscribers) only(audience uint64) subscribers {
	s.audience &= audience
	return s
}

// Matches reports whether any plugin is bound to the group.
func (p *Pipeline) Matches(group string) bool { return len(p.routes.Load().find(group).steps) > 0 }
