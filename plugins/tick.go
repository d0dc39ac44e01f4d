package plugins

import (
	"slices"
	"strings"
	"time"
)

// TickHandler takes the events that plugins emit from on_tick. The calls come from goroutines of the Pipeline.
type TickHandler interface {
	// Resume tells that emitted events wait for the group's turn. The handler calls [Pipeline.Resume] where it calls Run
	// for the group's events, so that all of them are processed one after another. It must not block.
	Resume(group string)
	// Deliver takes events that need not wait, after the plugins of their groups.
	Deliver(outputs []Output)
}

// HandleTicks sets the handler of events that plugins emit from on_tick. Without one, they wait for the next event that
// must not precede them, or are dropped.
// See docs/decisions/plugins.md#why-does-an-event-of-a-tick-wait-for-its-groups-turn
func (p *Pipeline) HandleTicks(h TickHandler) { p.tickHandler.Store(&h) }

// startTicks ticks the instances of a live module, each at the interval, until another module is live.
func (p *Pipeline) startTicks(pl *plugin, m *module) {
	if m.hooks&OnTick == 0 {
		return
	}
	retired := m.retired
	for i := range m.slots {
		p.ticks.Go(func() { p.tickInstance(pl, m, uint64(i), retired) })
	}
}

// tickInstance ticks an instance until its module is not live any more. A tick that is late replaces those that it has
// missed.
func (p *Pipeline) tickInstance(pl *plugin, m *module, instance uint64, retired <-chan struct{}) {
	interval := m.spec.Tick
	// The instances take turns, so that their ticks do not compete for the processors.
	next := time.Now().Add(interval * time.Duration(instance+1) / time.Duration(len(m.slots)))
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		select {
		case <-retired:
			return
		case <-timer.C:
		}
		if !p.tick(pl, m, instance) {
			return
		}
		next = next.Add(interval)
		if late := time.Since(next); late >= 0 {
			missed := late/interval + 1
			pl.ticksSkipped.Add(uint64(missed))
			next = next.Add(interval * missed)
		}
		timer.Reset(time.Until(next))
	}
}

// tick ticks an instance once, and hands over the emitted events. It returns false if the module is not live any more.
func (p *Pipeline) tick(pl *plugin, m *module, instance uint64) bool {
	if pl.resuming.full() {
		pl.ticksSkipped.Add(1)
		return true
	}
	pl.ticking.RLock()
	if pl.live() != m {
		pl.ticking.RUnlock()
		return false
	}
	resume, others, err := p.callTick(pl, m, instance)
	pl.ticking.RUnlock()
	if h := p.tickHandler.Load(); h != nil {
		for _, group := range resume {
			(*h).Resume(group)
		}
		if outputs := p.followTick(others); len(outputs) > 0 {
			(*h).Deliver(outputs)
		}
	}
	return err != errReplaced
}

// callTick calls on_tick. While the instance is still locked, it queues the emitted events, so that the next event of
// the instance finds them. It returns the groups at whose turn they continue, and the emitted events of an instance
// that has had no event yet: nothing has to precede or follow those.
func (p *Pipeline) callTick(pl *plugin, m *module, instance uint64) (resume []string, others []emission, err error) {
	key := breakerKey{hook: OnTick}
	s, err := m.acquire(key, instance)
	if err != nil {
		if isSuspended(err) {
			pl.skipped.Add(1)
		}
		return nil, nil, err
	}
	var res result
	f := s.instance.tick(&res)
	if f == nil {
		s.tally.ticks++
		s.tally.emitted += uint64(len(res.emits))
	}
	if f == nil && !pl.spec.Load().Shadow {
		resume, others = p.queueTick(pl, m, s, int(instance), res.emits)
	}
	err = m.release(s, key, f)
	if err == nil && res.effects != nil {
		m.commit(res.effects, origin{plugin: pl, hash: instance})
	}
	return resume, others, err
}

// queueTick queues the events that a tick of an instance emitted, see callTick. The caller holds the slot's lock.
func (p *Pipeline) queueTick(
	pl *plugin, m *module, s *slot, instance int, emits []emission,
) (resume []string, others []emission) {
	bound := p.boundTo(pl)
	routes := p.routes.Load()
	// Events of earlier ticks wait if the group at whose turn they were to continue has left the plugin.
	elsewhere := pl.resuming.takeOf(instance)
	if s.lastGroup == "" && len(elsewhere) > 0 {
		s.lastGroup = elsewhere[0].after // the module before had the events
	}
	if s.lastGroup != "" && !bound(s.lastGroup) {
		s.lastGroup = ""
	}
	for _, e := range emits {
		if !bound(e.group) {
			elsewhere = append(elsewhere, tickEvent{emission: e, by: m, instance: instance, elsewhere: true})
		} else if pl.resuming.add(tickEvent{emission: e, by: m, instance: instance}) {
			resume = append(resume, e.group)
		}
	}
	for _, e := range elsewhere {
		if e.after = s.lastGroup; e.after == "" {
			others = append(others, e.emission)
		} else if pl.resuming.add(e) {
			resume = append(resume, e.after)
		}
	}
	if p.routes.Load() != routes { // the change did not find the events
		pl.resuming.retain(p.boundTo(pl), len(m.slots))
	}
	return resume, others
}

// boundTo returns a function that reports whether a plugin is bound to a group.
func (p *Pipeline) boundTo(pl *plugin) func(group string) bool {
	routes := p.routes.Load()
	return func(group string) bool { return routes.find(group).stepOf(pl) >= 0 }
}

// stepOf returns the position of a plugin with effect in the route, -1 if it has none.
func (rt *route) stepOf(pl *plugin) int {
	for i := range rt.steps {
		if s := &rt.steps[i]; s.plugin == pl && !s.shadow {
			return i
		}
	}
	return -1
}

// followTick takes events that a tick emitted through the plugins of their groups.
func (p *Pipeline) followTick(emits []emission) (out []Output) {
	for _, e := range emits {
		for {
			before, current := len(out), p.routes.Load()
			rt := current.find(e.group)
			t := p.newTraversal(current, rt, before)
			ev := Event{Group: rt.group, Payload: e.payload}
			if out = t.walk(rt, 0, &ev, subscribers{audience: e.audience}, 1, nil, out); !t.stale {
				break
			}
			if out = out[:before]; p.routes.Load() == current { // the pipeline is being closed
				return out
			}
		}
	}
	return out
}

// Resume takes the events that plugins have emitted from on_tick, and that continue at the group's turn, on their way,
// and appends the resulting events to out. See [TickHandler].
func (p *Pipeline) Resume(group string, out []Output) []Output {
	for {
		before, current := len(out), p.routes.Load()
		rt := current.find(group)
		t := p.newTraversal(current, rt, before)
		for i := range rt.steps {
			if s := &rt.steps[i]; !s.shadow && s.resuming.count.Load() != 0 {
				if m := s.serving(rt.group); m != nil {
					out = t.resume(rt, i, s.resuming.take(nil, rt.group, m.slotIndex(rt.hash)), out)
				}
			}
		}
		if !t.stale {
			return out
		}
		t.giveBack()
		if out = out[:before]; p.routes.Load() == current { // the pipeline is being closed
			return out
		}
	}
}

// resume takes events that the plugin of a step emitted from on_tick on their way.
func (t *traversal) resume(rt *route, at int, events []tickEvent, out []Output) []Output {
	if len(events) == 0 {
		return out
	}
	t.resumed = append(t.resumed, resumedEvents{rt.steps[at].plugin, events})
	for i := range events {
		e := &events[i]
		// Each of them is an original, with budgets and limits of its own.
		own := *t
		own.origin, own.budget, own.outputLimit = rt, nil, len(out)+maxOutputs
		before := len(out)
		ev, to := Event{Group: rt.group, Payload: e.payload}, subscribers{audience: e.audience}
		if e.elsewhere {
			own.origin = t.routes.find(e.group)
			ev.Group = own.origin.group
			out = own.enter(own.origin, &ev, to, 1, nil, out)
		} else {
			to.emittedAt(rt, at, e.by)
			ev.Position = e.position.entry()
			out = own.walk(rt, at+1, &ev, to, 0, nil, out)
		}
		t.stale, t.resumed = own.stale, own.resumed
		t.outputLimit += len(out) - before
		if t.stale {
			break
		}
	}
	return out
}

// emittedAt notes that a module at a step has emitted the event from on_tick, as if the event had been through the
// steps before.
func (s *subscribers) emittedAt(rt *route, at int, by *module) {
	for i := range at {
		if m := rt.steps[i].serving(rt.group); m != nil && !rt.steps[i].shadow {
			s.passed(rt.steps[i].plugin, m)
		}
	}
	s.passed(rt.steps[at].plugin, by)
}

// resumedEvents are events of a plugin's ticks that a traversal has taken.
type resumedEvents struct {
	plugin *plugin
	events []tickEvent
}

// giveBack returns the events of ticks whose way has to be repeated.
func (t *traversal) giveBack() {
	for i := len(t.resumed) - 1; i >= 0; i-- {
		t.resumed[i].plugin.resuming.giveBack(t.resumed[i].events)
	}
	t.resumed = nil
}

// pauseTicks makes the plugins whose module a preparation replaces end the tick in flight, so that no event of a tick
// comes after events of the next module. The caller calls resume.
func (pr *Prepared) pauseTicks() (resume func()) {
	var paused []*plugin
	for _, e := range pr.entries {
		if e.module != nil && e.plugin != nil {
			paused = append(paused, e.plugin)
		}
	}
	slices.SortFunc(paused, func(a, b *plugin) int { return strings.Compare(a.name, b.name) }) // against deadlocks
	for _, pl := range paused {
		pl.ticking.Lock()
	}
	return func() {
		for _, pl := range paused {
			pl.ticking.Unlock()
		}
	}
}
