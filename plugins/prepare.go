package plugins

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
)

// ErrOutdated is returned by [Pipeline.Install] if the pipeline has changed since the preparation such that the
// prepared modules do not fit any more. [Prepared.Refresh] replaces them.
var ErrOutdated = errors.New("the pipeline has changed meanwhile; repeat the deployment")

// Prepared holds modules that are compiled, checked, tried on their samples and started, until [Pipeline.Install]
// makes them live. The caller closes it in any case. A Prepared is not safe for concurrent use; several of them may
// exist side by side.
//
// A preparation takes as long as the compiler and the guests' start do, which can be [DefaultCompileTime]. A host that
// guards its own records by a lock takes the lock to read them, prepares without the lock, takes the lock again to
// check that its records still say the same, and installs under the lock: Install takes no longer than the replaced
// modules' calls in flight.
type Prepared struct {
	pipeline *Pipeline
	// whole tells that entries are a whole pipeline, in order. Otherwise the only entry changes one plugin.
	whole   bool
	entries []*preparedPlugin
}

// preparedPlugin is a plugin as it will be.
type preparedPlugin struct {
	spec Spec
	key  string // of spec
	// plugin is the owner of the module's environment: a plugin of the pipeline, or a new one.
	plugin *plugin
	// before are the plugin's settings at the preparation. Nil if they do not matter.
	before *Spec
	// module is the new module. Nil if the live module has the same key and stays.
	module *module
	// tried identifies the samples that the module has passed.
	tried string
}

// Prepare prepares a change of one plugin, which must be part of the pipeline: another module, other settings or
// both. The running module takes events meanwhile, and other changes are made. Closing the pipeline ends a
// preparation with ErrClosed.
func (p *Pipeline) Prepare(ctx context.Context, spec Spec) (*Prepared, error) {
	return p.prepare(ctx, &Prepared{}, []Spec{spec})
}

// PrepareAll prepares specs as the whole pipeline, see [Pipeline.Apply]. The error lists all faults.
func (p *Pipeline) PrepareAll(ctx context.Context, specs []Spec) (*Prepared, error) {
	specs, err := checkSpecs(specs)
	if err != nil {
		return nil, err
	}
	return p.prepare(ctx, &Prepared{whole: true}, specs)
}

func (p *Pipeline) prepare(ctx context.Context, pr *Prepared, specs []Spec) (*Prepared, error) {
	var err error
	pr.pipeline = p
	for _, spec := range specs {
		e := &preparedPlugin{}
		pr.entries = append(pr.entries, e)
		if err = e.set(spec); err != nil {
			break
		}
	}
	if err == nil {
		err = pr.Refresh(ctx)
	}
	if err != nil {
		pr.Close()
		return nil, err
	}
	return pr, nil
}

// set sets the settings that are prepared.
func (e *preparedPlugin) set(spec Spec) (err error) {
	e.spec, err = spec.withDefaults()
	e.key = e.spec.key()
	return err
}

// reset changes the settings of a single prepared plugin; Refresh prepares them.
func (pr *Prepared) reset(spec Spec) error { return pr.entries[0].set(spec) }

// Refresh replaces modules that no longer fit the pipeline. After an error nothing is prepared any more.
func (pr *Prepared) Refresh(ctx context.Context) error {
	p := pr.pipeline
	ctx, release, err := p.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	jobs, discarded, err := pr.plan()
	for _, m := range discarded {
		m.close()
	}
	if err != nil {
		return err
	}
	faults := make([]error, len(jobs))
	var wg sync.WaitGroup
	for i, job := range jobs {
		wg.Go(func() { faults[i] = job(ctx) })
	}
	wg.Wait()
	if err := errors.Join(faults...); err != nil {
		pr.discard()
		if p.closing.Err() != nil {
			return ErrClosed
		}
		return err
	}
	return nil
}

// plan compares the entries with the pipeline. It returns the work that is to be done without the lock, and the
// modules that are of no use any more.
func (pr *Prepared) plan() (jobs []func(context.Context) error, discarded []*module, err error) {
	p := pr.pipeline
	p.mu.Lock()
	defer p.mu.Unlock()
	if !pr.whole {
		if _, err := p.specsWith(pr.entries[0].spec); err != nil {
			return nil, nil, err
		}
	}
	for _, e := range pr.entries {
		pl, before := p.plugins[e.spec.Name], e.plugin
		switch {
		case pl != nil:
			e.plugin = pl
		case before == nil || before.deployment.Load().phase != deploymentPending:
			e.plugin = newPlugin(e.spec.Name, p.host.logger, e.spec.KV, p.host.now, p.host.world)
		}
		samples := e.spec.samplesKey()
		if e.module != nil && (e.plugin != before || e.module.key != e.key || e.tried != samples) {
			discarded = append(discarded, e.module)
			e.module = nil
		}
		live := e.plugin.live()
		if !pr.whole {
			e.before = e.plugin.spec.Load()
		}
		switch {
		case e.module != nil:
		case live == nil || live.key != e.key:
			jobs = append(jobs, func(ctx context.Context) (err error) {
				e.module, err = p.load(ctx, e.spec, e.plugin.env)
				e.tried = samples
				return err
			})
		case live.checkGroups(&e.spec) != nil: // the module stays, with other settings
			return nil, discarded, live.checkGroups(&e.spec)
		case e.tried != samples && e.plugin.spec.Load().samplesKey() != samples: // only the samples have changed
			jobs = append(jobs, func(ctx context.Context) error {
				err := p.check(ctx, e.spec)
				e.tried = samples
				return err
			})
		}
	}
	return jobs, discarded, nil
}

// specsWith returns the current settings of all plugins, with other settings for one of them. The caller holds p.mu.
func (p *Pipeline) specsWith(changed Spec) ([]Spec, error) {
	if p.closed {
		return nil, ErrClosed
	}
	found := false
	order := *p.order.Load()
	specs := make([]Spec, len(order))
	for i, pl := range order {
		specs[i] = *pl.spec.Load()
		if pl.name == changed.Name {
			specs[i], found = changed, true
		}
	}
	if !found {
		return nil, unknownPlugin(changed.Name)
	}
	return checkSpecs(specs)
}

// outdated reports whether the prepared plugin no longer fits the pipeline. The caller holds p.mu.
func (e *preparedPlugin) outdated(p *Pipeline) bool {
	switch pl := p.plugins[e.spec.Name]; {
	case pl != nil && pl != e.plugin:
		return true
	case pl == nil && e.plugin.deployment.Load().phase != deploymentPending: // removed meanwhile
		return true
	case e.before != nil && e.before != e.plugin.spec.Load() && !reflect.DeepEqual(e.before, e.plugin.spec.Load()):
		return true
	}
	if e.module == nil {
		live := e.plugin.live()
		return live == nil || live.key != e.key
	}
	return false
}

// Install makes prepared modules and settings the pipeline's, between two events, and returns when the replaced
// modules are drained and freed. It compiles nothing and calls no guest. If the pipeline has changed since the
// preparation such that the result would not be as prepared, Install changes nothing and returns ErrOutdated: a plugin
// was removed, or the plugin of a single preparation got another module, settings or samples. After a success, the
// Prepared is spent.
func (p *Pipeline) Install(pr *Prepared) error {
	resume := pr.pauseTicks()
	r, err := p.install(pr)
	resume()
	r.close()
	return err
}

func (p *Pipeline) install(pr *Prepared) (r retirement, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return r, ErrClosed
	}
	specs := make([]Spec, len(pr.entries))
	for i, e := range pr.entries {
		if e.outdated(p) {
			return r, fmt.Errorf("plugin %s: %w", e.spec.Name, ErrOutdated)
		}
		specs[i] = e.spec
	}
	next := map[string]*plugin{}
	if !pr.whole {
		if specs, err = p.specsWith(pr.entries[0].spec); err != nil {
			return r, err
		}
		for name, pl := range p.plugins {
			next[name] = pl
		}
	}
	modules := map[string]*module{}
	for _, e := range pr.entries {
		next[e.spec.Name], modules[e.spec.Name] = e.plugin, e.module
		e.module = nil
	}
	return p.switchTo(specs, next, modules), nil
}

// Close frees the modules that are not installed. It may be called several times, also after the pipeline was closed.
func (pr *Prepared) Close() { pr.discard() }

func (pr *Prepared) discard() {
	for _, e := range pr.entries {
		if e.module != nil {
			e.module.close()
			e.module = nil
		}
	}
}

// begin starts work that closing the pipeline cancels. The caller calls release when the work is done.
func (p *Pipeline) begin(ctx context.Context) (_ context.Context, release func(), err error) {
	if p.closing.Err() != nil {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.closing, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}, nil
}

// load loads a module, and gives up waiting when ctx is done: a compiler in this process cannot be interrupted, so
// it ends in the background.
func (p *Pipeline) load(ctx context.Context, spec Spec, env *environment) (*module, error) {
	type loaded struct {
		m   *module
		err error
	}
	done := make(chan loaded) // unbuffered: either the caller gets the module, or the goroutine closes it
	go func() {
		m, err := p.host.load(ctx, spec, env)
		select {
		case done <- loaded{m, err}:
		case <-ctx.Done():
			if m != nil {
				m.close()
			}
		}
	}()
	select {
	case l := <-done:
		return l.m, l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("plugin %s: load the module: %w", spec.Name, context.Cause(ctx))
	}
}
