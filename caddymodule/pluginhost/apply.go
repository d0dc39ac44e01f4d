package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/edgerelay/edgerelay/internal/oneline"
	"github.com/edgerelay/edgerelay/plugins"
)

// Plan is a configuration of plugins that is ready to be installed. The caller closes it.
type Plan struct {
	host     *Host
	store    Store
	next     []*runningPlugin
	basis    map[string]*version
	prepared *plugins.Prepared
}

// ErrStale is returned by [Host.Install] if a plugin has changed since the plan. The caller makes another plan.
var ErrStale = errStale

// Apply makes list the pipeline, with the module of each plugin that [decide] chooses. A rejected module changes
// nothing, unless the plugin has a deployment that runs instead. A plugin that ran before the last installation, and
// cannot be loaded any more, gets the module of that time.
func (h *Host) Apply(ctx context.Context, list []*Plugin, store Store) error {
	for {
		plan, err := h.plan(ctx, list, store, h.formerPlugins())
		if err != nil {
			return err
		}
		err = h.Install(plan)
		plan.Close()
		if !errors.Is(err, ErrStale) {
			return err
		}
	}
}

// Plan reads, compiles and checks the modules of list. It takes as long as that takes and holds no lock. Running
// plugins that list neither names nor renames stay, after the others, until Apply is called: a configuration that is
// rejected after all must not have switched them off.
// See docs/decisions/plugins.md#why-do-removed-plugins-run-until-the-earlier-configuration-stops
func (h *Host) Plan(ctx context.Context, list []*Plugin, store Store) (*Plan, error) {
	return h.plan(ctx, list, store, nil)
}

// plan is Plan with former plugins, or without plugins that list does not name if former is not nil.
func (h *Host) plan(ctx context.Context, list []*Plugin, store Store, former map[*Plugin]*runningPlugin) (*Plan, error) {
	l := loader{
		store: store, pipeline: h.Pipeline, memories: h.memories, running: map[string]*runningPlugin{}, former: former,
	}
	plan := &Plan{host: h, store: store, basis: map[string]*version{}}
	running, _ := h.snapshot()
	for i := range running {
		l.running[running[i].Name] = &running[i]
		plan.basis[running[i].Name] = running[i].module
	}
	var err error
	if plan.next, err = l.loadAll(ctx, list); err != nil {
		return nil, err
	}
	for _, p := range plan.next {
		if old := l.running[p.Name]; old != nil {
			p.previous = old.previous
			if old.module.hash != p.module.hash && old.module.from == FromFile {
				p.previous = old.module
			}
		}
	}
	for i := range running {
		p := &running[i]
		if settings := p.module.plugin; former != nil || settings.Shadow || settings.ShadowOf != "" {
			continue
		}
		if !slices.ContainsFunc(plan.next, func(o *runningPlugin) bool { return o.Name == p.Name || o.does(p) }) {
			plan.next = append(plan.next, p)
		}
	}
	if plan.prepared, err = h.Pipeline.PrepareAll(ctx, specs(plan.next)); err != nil {
		return nil, fmt.Errorf("edgerelay: %w", err)
	}
	return plan, nil
}

// Install makes a plan the pipeline. It compiles nothing.
func (h *Host) Install(plan *Plan) error {
	next := make([]runningPlugin, len(plan.next)) // the watcher may change the plugins as soon as they run
	for i, p := range plan.next {
		next[i] = *p
	}
	if err := h.installPlan(plan); err != nil {
		return err
	}
	for _, p := range next {
		h.commit(plan.store, p.module)
		if p.rejected.err != nil {
			h.countRefusal(p.Name, p.rejected.err)
			h.log.Error(rejectionMessages[p.rejected.from], "plugin", p.Name, "error", p.rejected.err)
		}
	}
	h.align()
	h.prunePulled()
	return nil
}

func (h *Host) installPlan(plan *Plan) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.running {
		if plan.basis[p.Name] != p.module {
			return ErrStale
		}
	}
	switch err := h.Lanes.Install(plan.prepared); {
	case errors.Is(err, plugins.ErrOutdated):
		return ErrStale
	case err != nil:
		return fmt.Errorf("edgerelay: %w", err)
	}
	h.store = plan.store
	h.former = map[*Plugin]*runningPlugin{}
	for _, p := range h.running {
		h.former[p.Plugin] = p
	}
	h.publish(func() { h.running = plan.next })
	return nil
}

// does reports whether a plugin does the same to events as another, under another name.
func (p *runningPlugin) does(o *runningPlugin) bool {
	a, b := p.module.spec(nil), o.module.spec(nil)
	a.Name = b.Name
	return reflect.DeepEqual(a, b)
}

// HasOthers reports whether plugins run that list does not name.
func (h *Host) HasOthers(list []*Plugin) bool {
	running, _ := h.snapshot()
	return slices.ContainsFunc(running, func(r runningPlugin) bool {
		return !slices.ContainsFunc(list, func(p *Plugin) bool { return p.Name == r.Name })
	})
}

// formerPlugins returns the plugins before the last installation.
func (h *Host) formerPlugins() map[*Plugin]*runningPlugin {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.former == nil {
		return map[*Plugin]*runningPlugin{}
	}
	return h.former
}

// Close frees a plan that was not installed.
func (p *Plan) Close() { p.prepared.Close() }

// Check compiles and checks the plugins like [Host.Apply], without effect, for `caddy validate`.
func Check(ctx context.Context, list []*Plugin, store Store, loading plugins.Limits) error {
	if len(list) == 0 {
		return nil
	}
	quiet := slog.New(slog.DiscardHandler)
	pipeline, err := newPipeline(func() plugins.Limits { return loading }, quiet)
	if err != nil {
		return err
	}
	defer func() { _ = pipeline.Close() }()
	l := loader{store: store, pipeline: pipeline, memories: newMemories(quiet)}
	next, err := l.loadAll(ctx, list)
	if err != nil {
		return err
	}
	if err := pipeline.Apply(ctx, specs(next)); err != nil {
		return fmt.Errorf("edgerelay: %w", err)
	}
	return nil
}

// specs returns the settings and current modules of plugins.
func specs(list []*runningPlugin) []plugins.Spec {
	specs := make([]plugins.Spec, len(list))
	for i, p := range list {
		specs[i] = p.module.spec(p.samples)
	}
	return specs
}

// loader chooses the modules of a configuration.
type loader struct {
	store    Store
	pipeline *plugins.Pipeline
	memories *memories
	running  map[string]*runningPlugin
	former   map[*Plugin]*runningPlugin // see Apply
}

// loadAll chooses the module of each plugin. The error lists all faults.
func (l *loader) loadAll(ctx context.Context, list []*Plugin) ([]*runningPlugin, error) {
	next := make([]*runningPlugin, len(list))
	faults := make([]error, len(list))
	var wg sync.WaitGroup
	for i, p := range list {
		next[i] = &runningPlugin{Plugin: p, samples: p.spec.Samples, sampled: p.sampled}
		wg.Go(func() {
			err := l.load(ctx, next[i])
			if f := l.former[p]; err != nil && f != nil {
				*next[i] = *f
			} else if err != nil {
				faults[i] = fmt.Errorf("edgerelay: %w", err)
			}
		})
	}
	wg.Wait()
	return next, oneline.Join(faults...)
}

// load chooses the module of a plugin. If there is an alternative, a module that fails its check is passed over.
func (l *loader) load(ctx context.Context, p *runningPlugin) (err error) {
	old := l.running[p.Name]
	if old != nil && old.path == p.path {
		p.memory = old.memory
	} else {
		p.memory = l.memories.load(p.Plugin, l.store)
		old = nil
	}
	for _, r := range p.Plugin.refused.Refusals {
		p.memory.remember(r)
	}
	file := p.pull(ctx)
	p.file, p.hash = file.state, file.hash
	if p.record, err = l.store.load(ctx, p.Name); err != nil {
		return err
	}
	if p.record == nil && p.memory.ID != "" {
		p.rejected = rejection{"storage", "missing", errRecordLost}
		if old != nil && old.module.from == FromDeploy { // a running node keeps a module that only the storage has lost
			return l.keep(p, old.module)
		}
	}
	return l.choose(ctx, p, old, file)
}

// keep makes a version that runs already the version of a new configuration.
func (l *loader) keep(p *runningPlugin, v *version) error {
	own, err := p.with(v.entry.Settings)
	if err != nil {
		return err
	}
	kept, err := newVersion(v.from, v.signedModule(), v.at, v.entry, p.Plugin, own)
	if err != nil {
		return err
	}
	kept.next = p.memory.nodeState
	p.module = kept
	return nil
}

// choose tries the candidates in turn.
func (l *loader) choose(ctx context.Context, p *runningPlugin, old *runningPlugin, file fileContent) error {
	list := candidates(p.memory.nodeState, p.record, file.hash)
	var first error
	for i, c := range list {
		v, err := c.open(ctx, l.store, p.Plugin, file)
		if err == nil && len(list) > 1 && !unchanged(c, p, old, file.hash) {
			err = l.try(ctx, p, c, v)
		}
		if err == nil {
			if p.module = v; first != nil {
				p.rejected = rejection{string(list[0].from), list[0].attempt(p.Plugin, p.samples, file.hash), first}
			}
			return nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil || i == len(list)-1 {
			break
		}
	}
	return first
}

// unchanged reports whether the candidate runs already, with the same settings and samples.
func unchanged(c candidate, p, old *runningPlugin, file string) bool {
	return old != nil && c.is(old.module, file) &&
		c.attempt(p.Plugin, p.samples, file) == c.attempt(old.Plugin, old.samples, file)
}

// try checks a version that has an alternative.
func (l *loader) try(ctx context.Context, p *runningPlugin, c candidate, v *version) error {
	attempt := c.attempt(p.Plugin, p.samples, v.hash)
	if !hasSecrets(p.Plugin) || p.Plugin.refused.refused(attempt, now()) != "" {
		if reason := p.memory.refused(attempt, now()); reason != "" {
			return errors.New(reason)
		}
	}
	err := l.pipeline.Check(ctx, v.spec(p.samples))
	if err != nil && ctx.Err() == nil {
		r := refusal{attempt, err.Error(), now()}
		p.memory.remember(r)
		p.Plugin.refused.remember(r)
	}
	return err
}

// hasSecrets reports whether the configuration depends on more than its text.
func hasSecrets(p *Plugin) bool {
	return strings.Contains(string(p.Config), envPrefix) || strings.Contains(string(p.Config), filePrefix)
}
