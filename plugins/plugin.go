package plugins

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// plugin is the part of a plugin that outlives its modules: name, logs, counters, key-value store and policy. Its
// methods are safe for concurrent use, except that the pipeline's lock guards install, revokeFallback and remove.
type plugin struct {
	name   string
	number uint64 // no two plugins of the process have the same
	env    *environment

	spec       atomic.Pointer[Spec] // the current one
	deployment atomic.Pointer[deployment]
	recording  atomic.Pointer[Recording] // nil unless connections are recorded

	skipped  atomic.Uint64 // calls not made while a circuit breaker was open
	busy     atomic.Uint64 // calls not made because too many calls waited
	outcomes [outcomeCount]atomic.Uint64
	excess   atomic.Uint64 // emitted events dropped because an event had become too many

	resuming     resuming
	ticksSkipped atomic.Uint64 // merged with later ones, because they were late or events of earlier ones waited
	ticking      sync.RWMutex  // read-locked during a tick, locked while another module becomes live

	shadow shadowQueue // of a shadow

	mu       sync.Mutex // guards the fields below, and is held by changes of deployment
	past     tally      // of closed modules
	retiring []*module  // without events, but with calls in flight
}

// pluginCount numbers plugins.
var pluginCount atomic.Uint64

func newPlugin(name string, logger *slog.Logger, kv int, now func() time.Time, w *world) *plugin {
	p := &plugin{name: name, number: pluginCount.Add(1), env: &environment{
		log: newLogbook(logger, name, now), metrics: &counters{}, kv: newStore(kv, now), now: now, world: w,
	}}
	p.env.plugin = p
	p.deployment.Store(&deployment{})
	return p
}

// live returns the live module, nil if there is none.
func (p *plugin) live() *module { return p.deployment.Load().live }

// serving returns the module that decides for a group: the live one, or the candidate of a canary.
func (p *plugin) serving(group string) *module { return p.deployment.Load().serving(group) }

// outcome is what becomes of an event that a plugin could not process.
type outcome int

const (
	outcomeWithheld outcome = iota
	outcomePassed
	outcomeDropped
	outcomeLastGood
	outcomeCount
)

// Outcomes names what can become of an event that a plugin could not process, as in [Health].
var Outcomes = [...]string{
	outcomeWithheld: "withheld", outcomePassed: "passed", outcomeDropped: "dropped", outcomeLastGood: "last_good",
}

// acquire acquires an instance of the group's module. s is nil without an error if that module does not export the
// hook. errReplaced means that the plugin has left the pipeline.
func (p *plugin) acquire(key breakerKey, hash uint64) (m *module, s *slot, err error) {
	return p.acquireFor(key.group, key, hash)
}

// acquireFor is acquire for a group, or for another name by which a canary divides calls.
func (p *plugin) acquireFor(place string, key breakerKey, hash uint64) (m *module, s *slot, err error) {
	for {
		if m = p.serving(place); m == nil {
			return nil, nil, errReplaced
		}
		if m.hooks&key.hook == 0 {
			return m, nil, nil
		}
		s, err = m.acquire(key, hash)
		if err == errReplaced {
			continue // by a module that is live by now, or the plugin was removed
		}
		switch {
		case err == nil:
		case err == ErrBusy:
			p.busy.Add(1)
		case isSuspended(err):
			p.skipped.Add(1)
		}
		return m, s, err
	}
}

// acquireFallback acquires an instance of the fallback module, which for a candidate is the live one. s is nil if there
// is none, or if it cannot take the call.
func (p *plugin) acquireFallback(key breakerKey, hash uint64) (m *module, s *slot) {
	return p.acquireFallbackFor(key.group, key, hash)
}

// acquireFallbackFor is acquireFallback with the name of acquireFor.
func (p *plugin) acquireFallbackFor(place string, key breakerKey, hash uint64) (m *module, s *slot) {
	if p.spec.Load().OnError != OnErrorLastGood {
		return nil, nil
	}
	d := p.deployment.Load()
	failed := d.serving(place)
	if m = d.fallback; failed != d.live {
		m = d.live
	}
	if m == nil || m.hooks&key.hook == 0 {
		return nil, nil
	}
	if key.hook == OnClass && (m.hooks|failed.hooks)&OnSubscribe != 0 {
		return nil, nil // the class is of the failed module, whose numbers mean nothing to the fallback
	}
	s, err := m.acquire(key, hash)
	if err != nil {
		return nil, nil
	}
	return m, s
}

// event decides about an event and sets res. After a failure, which event returns, res is the decision of on_error.
func (p *plugin) event(hash uint64, ev *Event, hops int, budget *allowance, res *result) error {
	d, began := p.deployment.Load(), int64(0)
	if d.canary != nil {
		began = elapsed()
	}
	key := breakerKey{hook: OnEvent, group: ev.Group}
	if ev.isReplay() {
		key.subject = replaySubject
	}
	var resumed []tickEvent
	m, s, err := p.acquire(key, hash)
	for {
		if m != nil && p.resuming.count.Load() != 0 && !ev.isReplay() { // no tick comes between this and the call
			resumed = p.resuming.take(resumed, ev.Group, m.slotIndex(hash))
		}
		if s == nil {
			break
		}
		if err = m.event(s, key, ev, hops, budget, res); err != errReplaced {
			break
		}
		m, s, err = p.acquire(key, hash) // the replaced module did not end in time
	}
	switch {
	case err == errReplaced:
		*res = result{removed: true}
	case err != nil:
		if f, s := p.acquireFallback(key, hash); s != nil && f.event(s, key, ev, hops, budget, res) == nil {
			p.countOutcome(outcomeLastGood, ev.isReplay())
			if f.hooks&OnClass != 0 || res.selectsClasses() { // of the fallback's own numbers
				m = f
			}
			break
		}
		*res = p.applyOnError(ev.isReplay())
	case s == nil:
		*res = result{audience: allClasses}
	}
	if res.effects != nil {
		m.commit(res.effects, origin{plugin: p, hash: hash, place: ev.Group, hops: min(hops, maxHops) + 1})
	}
	res.by, res.resumed = m, resumed
	if d.canary != nil {
		p.observeCanary(d, began, hash, ev, hops, res, err)
	}
	return err
}

// selectsClasses reports whether a result depends on the classes of subscribers.
func (res *result) selectsClasses() bool {
	return res.audience != allClasses ||
		slices.ContainsFunc(res.emits, func(e emission) bool { return e.audience != allClasses })
}

// applyOnError returns the result for an event, or for the view that a class gets of it, that no module has processed.
func (p *plugin) applyOnError(replayed bool) result {
	switch p.spec.Load().OnError {
	case OnErrorPass:
		p.countOutcome(outcomePassed, replayed)
		return result{audience: allClasses}
	case OnErrorDrop:
		p.countOutcome(outcomeDropped, replayed)
		return result{audience: allClasses, verdict: Drop}
	}
	p.countOutcome(outcomeWithheld, replayed)
	return result{audience: allClasses, verdict: Drop, withheld: true}
}

// countOutcome counts the outcome of an event that the plugin could not process. A shadow decides about no event, and
// an event of a replay has been counted when it was live.
func (p *plugin) countOutcome(o outcome, replayed bool) {
	if !p.spec.Load().Shadow && !replayed {
		p.outcomes[o].Add(1)
	}
}

// event calls on_event and releases the slot.
func (m *module) event(s *slot, key breakerKey, ev *Event, hops int, budget *allowance, res *result) error {
	if m.hooks&OnTick != 0 && !ev.isReplay() {
		s.lastGroup = ev.Group
	}
	f := s.instance.event(ev, hops, budget, res)
	switch {
	case f == nil && ev.isReplay():
		s.tally.replayed++
	case f == nil:
		s.tally.verdicts[res.verdict]++
		s.tally.emitted += uint64(len(res.emits))
	}
	return m.release(s, key, f)
}

// render decides what subscribers of a class see of an event. It decides nothing if the module that res names has no
// on_class.
func (p *plugin) render(hash uint64, class uint8, ev *Event) (res result) {
	key := breakerKey{hook: OnClass, group: ev.Group, subject: uint64(class)}
	if ev.isReplay() {
		key.subject |= replaySubject
	}
	d, began := p.deployment.Load(), int64(0)
	if d.canary != nil {
		began = elapsed()
	}
	m, s, err := p.acquire(key, hash)
	called := s != nil || err != nil
	for s != nil {
		if err = m.class(s, key, class, ev, &res); err != errReplaced {
			break
		}
		m, s, err = p.acquire(key, hash)
	}
	switch {
	case err == nil:
	case err == errReplaced:
		return result{removed: true}
	default:
		if f, s := p.acquireFallback(key, hash); s != nil && f.class(s, key, class, ev, &res) == nil {
			p.countOutcome(outcomeLastGood, ev.isReplay())
		} else {
			res = p.applyOnError(ev.isReplay())
		}
	}
	if d.canary != nil && called {
		p.observeHook(d, began, key, err)
	}
	res.by = m
	return res
}

// class calls on_class and releases the slot.
func (m *module) class(s *slot, key breakerKey, class uint8, ev *Event, res *result) error {
	f := s.instance.class(class, ev, res)
	if f == nil {
		s.tally.renders++
	}
	return m.release(s, key, f)
}

// subscribe decides about a subscription. by is the module that has decided; classified reports whether it named a
// class. An error denies; errReplaced means that the plugin has left the pipeline.
func (p *plugin) subscribe(
	ctx context.Context, hash, user uint64, group string, request []byte,
) (d Decision, by *module, classified bool, err error) {
	key := breakerKey{hook: OnSubscribe, group: group, subject: user}
	deployed, began := p.deployment.Load(), int64(0)
	if deployed.canary != nil {
		began = elapsed()
	}
	m, s, err := p.acquire(key, hash)
	for s != nil {
		if d, classified, err = m.subscribe(ctx, s, key, request); err != errReplaced {
			break
		}
		m, s, err = p.acquire(key, hash)
	}
	if s == nil && err == nil { // the live module has no such hook
		return Decision{Allow: true}, m, false, nil
	}
	if err == errReplaced || err != nil && ctx.Err() != nil {
		return d, nil, false, err
	}
	if deployed.canary != nil {
		p.observeHook(deployed, began, key, err)
	}
	if err != nil {
		if f, s := p.acquireFallback(key, hash); s != nil {
			m = f
			d, classified, err = m.subscribe(ctx, s, key, request)
		}
	}
	return d, m, classified, err
}

// subscribe calls on_subscribe and releases the slot.
func (m *module) subscribe(
	ctx context.Context, s *slot, key breakerKey, request []byte,
) (Decision, bool, error) {
	d, classified, f := s.instance.subscribe(ctx, request)
	if f == nil {
		s.tally.subscribes++
		if !d.Allow {
			s.tally.denies++
		}
	}
	return d, classified, m.release(s, key, f)
}

// total adds up the counts of all modules that the plugin has had.
func (p *plugin) total() tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.past
	d := p.deployment.Load()
	for _, m := range append([]*module{d.live, d.fallback, d.canary.candidate()}, p.retiring...) {
		if m != nil {
			of := m.total()
			t.add(&of)
		}
	}
	return t
}
