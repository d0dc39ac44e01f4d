package plugins

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
)

// PreparedCanary is a candidate that is compiled, checked, tried on its samples and started, until
// [Pipeline.StartCanary] starts its canary. The caller closes it in any case. It is not safe for concurrent use.
type PreparedCanary struct {
	plugin    *plugin
	canary    Canary
	candidate *module
	trial     *canaryTrial
}

// PrepareCanary prepares the trial of another module, with the settings of spec, of a plugin of the pipeline. The
// candidate shares the plugin's key-value store. A module with on_tick, and a shadow, cannot be tried: the error is
// ErrNoCanary then.
// See docs/decisions/plugins.md#how-does-a-canary-divide-a-plugin
func (p *Pipeline) PrepareCanary(ctx context.Context, spec Spec, c Canary) (_ *PreparedCanary, err error) {
	if !(c.Share > 0 && c.Share <= 1) {
		return nil, fmt.Errorf("plugin %s: share %g; use a share above 0 and up to 1", spec.Name, c.Share)
	}
	if spec, err = spec.withDefaults(); err != nil {
		return nil, err
	}
	ctx, release, err := p.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	p.mu.Lock()
	pl := p.plugins[spec.Name]
	p.mu.Unlock()
	if pl == nil {
		return nil, unknownPlugin(spec.Name)
	}
	if pl.spec.Load().Shadow || spec.Shadow {
		return nil, fmt.Errorf("plugin %s: a shadow decides nothing, so it can have %w; deploy the module",
			spec.Name, ErrNoCanary)
	}
	if err := pl.live().checkCanary(); err != nil {
		return nil, err
	}
	m, err := p.load(ctx, spec, pl.env)
	if err != nil {
		return nil, err
	}
	if err := m.checkCanaryOf(pl.live()); err != nil {
		m.close()
		return nil, err
	}
	pc := &PreparedCanary{pl, c, m, &canaryTrial{limits: c.Limits, since: c.Since}}
	if pc.trial.unseen = m.statefulness(); pc.trial.unseen == "" {
		if m.beside, err = p.loadBeside(ctx, spec); err != nil {
			m.close()
			return nil, err
		}
		pc.trial.beside = m.beside
	} else if c.Limits.MaxDiffer != nil {
		m.close()
		return nil, fmt.Errorf("plugin %s: the candidate cannot run as a shadow: %s; leave the limit of differing "+
			"decisions out", spec.Name, pc.trial.unseen)
	}
	return pc, nil
}

// checkCanary returns an error if a module cannot take part in a canary.
func (m *module) checkCanary() error {
	if m != nil && m.hooks&OnTick != 0 {
		return fmt.Errorf("plugin %s: module %.12s has %s, and ticks belong to no group, so that two modules would both "+
			"emit the same events; it can have %w; try the module as a shadow, or deploy it",
			m.spec.Name, m.hash, exportOnTick, ErrNoCanary)
	}
	return nil
}

// checkCanaryOf returns an error if a module cannot be tried beside the stable one.
func (m *module) checkCanaryOf(stable *module) error {
	if err := m.checkCanary(); err != nil || stable == nil {
		return err
	}
	if missing := stable.hooks & ofClients &^ m.hooks; missing != 0 { // without on_connect, it would accept every client
		return fmt.Errorf("plugin %s: module %.12s lacks %v, which the running module has; it can have %w; add the hooks, "+
			"or deploy the module", m.spec.Name, m.hash, missing, ErrNoCanary)
	}
	return nil
}

// statefulGrants are the grants of functions whose results depend on earlier events.
var statefulGrants = []Grant{GrantKV, GrantShared, GrantAlarms, GrantFetch}

// statefulness returns the reason why a module's decisions beside another one say nothing, empty if they do.
func (m *module) statefulness() string {
	for _, f := range m.compiled.ImportedFunctions() {
		mod, name, _ := f.Import()
		i := slices.IndexFunc(hostFunctions, func(known hostFunction) bool { return known.name == name })
		if mod == hostModule && i >= 0 && slices.Contains(statefulGrants, hostFunctions[i].grant) {
			return fmt.Sprintf("the module uses %s, so its decisions depend on earlier events", name)
		}
	}
	return ""
}

// loadBeside returns the shadow of a candidate, which has state and instances of its own.
func (p *Pipeline) loadBeside(ctx context.Context, spec Spec) (*plugin, error) {
	spec.Samples, spec.Instances, spec.Shadow = nil, 1, true
	beside := newPlugin(spec.Name, slog.New(slog.DiscardHandler), spec.KV, p.host.now, nil)
	beside.spec.Store(&spec)
	m, err := p.load(ctx, spec, beside.env)
	if err != nil {
		return nil, err
	}
	beside.install(m)
	return beside, nil
}

// Close frees a candidate that was not started.
func (pc *PreparedCanary) Close() {
	if pc.candidate != nil {
		pc.candidate.close()
		pc.candidate = nil
	}
}

// StartCanary starts a prepared canary between two events. It takes the place of a canary that runs, whose candidate is
// drained and freed first. ErrOutdated means that the plugin was removed, or cannot have a canary any more. After a
// success, the PreparedCanary is spent.
func (p *Pipeline) StartCanary(pc *PreparedCanary) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	pl := pc.plugin
	if p.plugins[pl.name] != pl || pl.live().checkCanary() != nil {
		p.mu.Unlock()
		return fmt.Errorf("plugin %s: %w", pl.name, ErrOutdated)
	}
	c := newCanary(&pc.canary, pc.candidate, pc.trial)
	pc.candidate = nil
	r := p.changeCanary(pl, deploymentChange{event: canaryStarted, canary: c})
	p.mu.Unlock()
	r.close()
	return nil
}

// ResizeCanary gives a running canary another share of the groups, between two events.
func (p *Pipeline) ResizeCanary(name, id string, share float64) error {
	if !(share > 0 && share <= 1) {
		return fmt.Errorf("plugin %s: share %g; use a share above 0 and up to 1", name, share)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pl, c, err := p.canaryOf(name, id)
	if err == nil {
		p.changeCanary(pl, deploymentChange{event: canaryResized, canary: c.resized(share)})
	}
	return err
}

// EndCanary makes the live module decide for all groups again, and returns when the candidate is drained and freed.
func (p *Pipeline) EndCanary(name, id string) error {
	p.mu.Lock()
	pl, _, err := p.canaryOf(name, id)
	if err != nil {
		p.mu.Unlock()
		return err
	}
	r := p.changeCanary(pl, deploymentChange{event: canaryEnded})
	p.mu.Unlock()
	r.close()
	return nil
}

// canaryOf returns a running canary. The caller holds p.mu.
func (p *Pipeline) canaryOf(name, id string) (*plugin, *canary, error) {
	if p.closed {
		return nil, nil, ErrClosed
	}
	pl := p.plugins[name]
	if pl == nil {
		return nil, nil, unknownPlugin(name)
	}
	c := pl.deployment.Load().canary
	if c == nil || c.id != id {
		return nil, nil, fmt.Errorf("plugin %s: canary %s: %w", name, id, ErrNoCanary)
	}
	return pl, c, nil
}

// changeCanary applies a change, and has subscriptions classified again if it concerns them. The caller holds p.mu, and
// closes the retirement without p.mu.
func (p *Pipeline) changeCanary(pl *plugin, c deploymentChange) (r retirement) {
	routes := p.routes.Load()
	classifiers := routes.classifiers()
	r.add(pl, pl.change(c))
	if f := p.onReclassify.Load(); f != nil && !slices.EqualFunc(classifiers, routes.classifiers(), classifier.equal) {
		(*f)()
	}
	return r
}
