package plugins

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// plugin is what keeps a name across versions of its module: logs, counters, store, policy. Its methods are safe for concurrent use.
type plugin struct {
	name string
	env  *environment

	spec atomic.Pointer[Spec]   // in force
	live atomic.Pointer[module] // nil once the plugin is removed
	gone atomic.Bool            // it has been
	good atomic.Pointer[module] // with last_good: the module before live, if it worked

	bypassed atomic.Uint64 // calls that the policy answered while the plugin was set aside for their group
	outcomes [outcomes]atomic.Uint64
	overflow atomic.Uint64 // emitted events left out for maxOutputs
	same     atomic.Uint64 // of a shadow: decisions like the original's
	differ   atomic.Uint64 // of a shadow: other decisions
	deploys  atomic.Uint64

	mu       sync.Mutex
	past     tally // of modules that are gone
	previous *Spec // for Rollback
}

func newPlugin(name string, logger *slog.Logger, kv int, now func() time.Time) *plugin {
	return &plugin{name: name, env: &environment{
		log: newLogbook(logger, name, now), metrics: &counters{}, kv: newStore(kv, now), now: now,
	}}
}

// outcome is what became of an event that a plugin did not process.
type outcome int

const (
	withheld outcome = iota
	passed
	dropped
	lastGood
	outcomes
)

// Outcomes are what can become of an event that a plugin did not process, as [Health] names them.
var Outcomes = [...]string{withheld: "withheld", passed: "passed", dropped: "dropped", lastGood: "last_good"}

// acquire takes an instance of the live module, again if the module was replaced in between. m is nil if it has no such hook.
func (p *plugin) acquire(g gate, hash uint64) (m *module, s *slot, err error) {
	for {
		m = p.live.Load()
		if m == nil || m.hooks&g.hook == 0 {
			return m, nil, nil
		}
		if s, err = m.acquire(g, hash); err != errReplaced {
			if err == errOpen {
				p.bypassed.Add(1)
			}
			return m, s, err
		}
	}
}

// lastGood takes an instance of the module that ran before, if the policy wants it and there is one.
func (p *plugin) lastGood(g gate, hash uint64) (m *module, s *slot) {
	if p.spec.Load().OnError != OnErrorLastGood {
		return nil, nil
	}
	if m = p.good.Load(); m == nil || m.hooks&g.hook == 0 {
		return nil, nil
	}
	s, err := m.acquire(g, hash)
	if err != nil {
		return nil, nil
	}
	return m, s
}

// event decides about an event and sets res. It never fails: after an error the policy decides.
func (p *plugin) event(hash uint64, group string, payload []byte, hops int, res *result) {
	g := gate{hook: OnEvent, group: group}
	m, s, err := p.acquire(g, hash)
	if s != nil {
		err = m.event(s, g, payload, hops, res)
	}
	if err == nil {
		if s == nil {
			*res = result{audience: everybody, gone: m == nil && p.gone.Load()}
		}
		return
	}
	if m, s := p.lastGood(g, hash); s != nil && m.event(s, g, payload, hops, res) == nil {
		p.note(lastGood)
		return
	}
	*res = p.policy()
}

// policy is what becomes of an event, or of what a class sees of it, that no module has processed.
func (p *plugin) policy() result {
	switch p.spec.Load().OnError {
	case OnErrorPass:
		p.note(passed)
		return result{audience: everybody}
	case OnErrorDrop:
		p.note(dropped)
		return result{audience: everybody, verdict: Drop}
	}
	p.note(withheld)
	return result{audience: everybody, verdict: Drop, withheld: true}
}

// note counts what became of an event that the plugin did not process. A shadow decides about none.
func (p *plugin) note(o outcome) {
	if !p.spec.Load().Shadow {
		p.outcomes[o].Add(1)
	}
}

func (m *module) event(s *slot, g gate, payload []byte, hops int, res *result) error {
	f := s.in.event(g.group, payload, hops, res)
	if f == nil {
		s.tally.verdicts[res.verdict]++
		s.tally.emitted += uint64(len(res.emits))
	}
	return m.release(s, g, f)
}

// render decides what a class is shown of an event.
func (p *plugin) render(hash uint64, class uint8, group string, payload []byte) (res result) {
	g := gate{hook: OnClass, group: group, part: uint64(class)}
	m, s, err := p.acquire(g, hash)
	if s != nil {
		err = m.class(s, g, class, payload, &res)
	}
	if err == nil {
		res.gone = m == nil && p.gone.Load()
		return res
	}
	if m, s := p.lastGood(g, hash); s != nil && m.class(s, g, class, payload, &res) == nil {
		p.note(lastGood)
		return res
	}
	return p.policy()
}

func (m *module) class(s *slot, g gate, class uint8, payload []byte, res *result) error {
	f := s.in.class(class, g.group, payload, res)
	if f == nil {
		s.tally.renders++
	}
	return m.release(s, g, f)
}

// subscribe decides about a subscription. An error denies; errReplaced tells that the plugin was removed meanwhile.
func (p *plugin) subscribe(hash, user uint64, group string, request []byte) (d Decision, named bool, err error) {
	g := gate{hook: OnSubscribe, group: group, part: user}
	m, s, err := p.acquire(g, hash)
	switch {
	case m == nil:
		return d, false, errReplaced
	case s != nil:
		d, named, err = m.subscribe(s, g, request)
	case err == nil: // this version has no such hook
		return Decision{Allow: true}, false, nil
	}
	if err != nil {
		if m, s := p.lastGood(g, hash); s != nil {
			d, named, err = m.subscribe(s, g, request)
		}
	}
	return d, named, err
}

func (m *module) subscribe(s *slot, g gate, request []byte) (Decision, bool, error) {
	d, named, f := s.in.subscribe(request)
	if f == nil {
		s.tally.subscribes++
		if !d.Allow {
			s.tally.denies++
		}
	}
	return d, named, m.release(s, g, f)
}

// install makes m the live module between two events and frees the one before it, unless last_good keeps that one. It returns when
// every call under way has ended.
func (p *plugin) install(m *module) {
	old := p.live.Swap(m)
	if old == nil {
		return
	}
	p.deploys.Add(1)
	if m == nil || m.hash != old.hash {
		p.mu.Lock()
		p.previous = &old.spec
		p.mu.Unlock()
	}
	if m != nil && p.spec.Load().OnError == OnErrorLastGood && old.total().worked() {
		old = p.good.Swap(old)
	}
	p.retire(old)
}

// remove ends the plugin.
func (p *plugin) remove() {
	p.gone.Store(true)
	p.retire(p.live.Swap(nil))
	p.retire(p.good.Swap(nil))
}

// retire closes a module and keeps its figures.
func (p *plugin) retire(m *module) {
	if m == nil {
		return
	}
	m.close()
	t := m.total()
	p.mu.Lock()
	p.past.add(&t)
	p.mu.Unlock()
}

// worked tells whether a module did anything without failing.
func (t tally) worked() bool {
	return t.verdicts[Pass]+t.verdicts[Drop]+t.verdicts[Replace]+t.subscribes+t.renders > 0
}
