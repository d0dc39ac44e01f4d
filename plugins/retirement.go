package plugins

import (
	"slices"
	"time"
)

// install makes m the live module between two events. With on_error last_good, the live module becomes the fallback if
// any of its calls has succeeded. The caller passes the retired modules to retire.
func (p *plugin) install(m *module) (retired []*module) {
	old := p.live()
	keep := old != nil && p.spec.Load().OnError == OnErrorLastGood && old.hasSucceeded()
	if m.checkCanary() != nil {
		retired = p.change(deploymentChange{event: canaryEnded})
	}
	return append(retired, p.change(deploymentChange{event: moduleInstalled, installed: m, keepLive: keep})...)
}

// revokeFallback takes the fallback module, if there is one, out of operation.
func (p *plugin) revokeFallback() (retired []*module) {
	return p.change(deploymentChange{event: fallbackRevoked})
}

// remove ends the plugin.
func (p *plugin) remove() (retired []*module) {
	p.shadow.end()
	retired = p.change(deploymentChange{event: pluginRemoved})
	if r := p.recording.Load(); r != nil {
		r.Close()
	}
	return retired
}

// change applies a change and returns the modules that no event reaches any more.
func (p *plugin) change(c deploymentChange) (retired []*module) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, retired := p.deployment.Load().next(c)
	p.deployment.Store(&next)
	p.retiring = append(p.retiring, retired...)
	return retired
}

// retire waits for every call in flight in the modules, frees them and keeps their counts.
func (p *plugin) retire(modules []*module) {
	for _, m := range modules {
		m.close()
		t := m.total()
		p.mu.Lock()
		p.past.add(&t)
		p.retiring = slices.DeleteFunc(p.retiring, func(r *module) bool { return r == m })
		p.mu.Unlock()
	}
	p.shadow.wait()
}

// retirement collects modules that a change has taken out of operation, by plugin.
type retirement struct {
	plugins []*plugin
	modules [][]*module
}

func (r *retirement) add(p *plugin, modules []*module) {
	if len(modules) > 0 {
		r.plugins, r.modules = append(r.plugins, p), append(r.modules, modules)
	}
}

// drainTimeout is how long retired modules may finish their calls in flight. Later calls are canceled: the current
// module, if there is one, takes their events.
const drainTimeout = time.Second

// close drains and frees the modules. It takes as long as their calls in flight, so no lock is held meanwhile.
func (r *retirement) close() {
	timer := time.AfterFunc(drainTimeout, func() {
		for _, modules := range r.modules {
			for _, m := range modules {
				m.canceled.Store(true)
			}
		}
	})
	defer timer.Stop()
	for i, p := range r.plugins {
		p.retire(r.modules[i])
	}
}
