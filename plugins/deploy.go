package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"time"
)

// Options are the settings of a Pipeline.
type Options struct {
	// CacheDir keeps compiled modules between runs; empty: in memory only. The directory is created with mode 0700. A
	// directory that other users may write to is rejected: such a user could run code in this process. The pipeline
	// removes modules that were not used for long. Several processes may share the directory.
	CacheDir string
	// Compiler compiles modules outside this process, so that a module cannot exhaust the process before it runs. Nil
	// compiles in this process: for modules that the caller trusts.
	Compiler Compiler
	// MaxUncachedModule bounds the size of a module, in bytes, where this process must compile modules although there is
	// a Compiler: without CacheDir, if the disk fails or if the Compiler cannot work. Default: no other bound than for
	// all modules.
	MaxUncachedModule int
	// Logger receives the plugins' log lines, at a bounded rate per plugin. Default: slog.Default().
	Logger *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time

	startWait time.Duration // default: defaultStartWait
}

// host holds the parts that all modules of a Pipeline share.
type host struct {
	codes     *codes
	logger    *slog.Logger
	now       func() time.Time
	startWait time.Duration
	world     *world
}

// New returns an empty Pipeline, which passes every event. The caller closes it.
func New(o Options) (*Pipeline, error) {
	h := &host{logger: o.Logger, now: o.Now, startWait: o.startWait, world: &world{}}
	setDefault(&h.startWait, defaultStartWait)
	if h.logger == nil {
		h.logger = slog.Default()
	}
	if h.now == nil {
		h.now = time.Now
	}
	var err error
	if h.codes, err = newCodes(&o, h.logger); err != nil {
		return nil, err
	}
	p := &Pipeline{host: h, seed: maphash.MakeSeed(), plugins: map[string]*plugin{}}
	p.closing, p.stop = context.WithCancelCause(context.Background())
	p.routes.Store(newRoutes(nil, p.seed))
	p.order.Store(new([]*plugin))
	return p, nil
}

// ErrClosed is returned by changes to a closed Pipeline.
var ErrClosed = errors.New("plugin pipeline closed")

// Apply makes the specs, in their order, the pipeline. Modules with unchanged bytes and settings keep running with
// their instances. All other modules are compiled, checked and started first. If any of them is rejected, nothing
// changes and the error lists all faults. Events are processed, and other changes are made, meanwhile. Apply returns
// when the replaced modules are drained and freed.
func (p *Pipeline) Apply(ctx context.Context, specs []Spec) error {
	prepared, err := p.PrepareAll(ctx, specs)
	if err != nil {
		return err
	}
	defer prepared.Close()
	for {
		if err = p.Install(prepared); !errors.Is(err, ErrOutdated) {
			return err
		}
		if err = prepared.Refresh(ctx); err != nil {
			return err
		}
	}
}

// switchTo makes specs, with their plugins and new modules, the pipeline. It returns the modules that this replaces,
// which the caller closes without p.mu. A nil module keeps the live one. The caller holds p.mu.
func (p *Pipeline) switchTo(specs []Spec, next map[string]*plugin, modules map[string]*module) (r retirement) {
	classifiers := p.routes.Load().classifiers()
	var after []func() // the routes name the plugins, or name them no longer
	order := make([]*plugin, len(specs))
	for i := range specs {
		pl, m := next[specs[i].Name], modules[specs[i].Name]
		order[i] = pl
		distrusted := pl.spec.Load() != nil && pl.spec.Load().Trust != specs[i].Trust
		pl.spec.Store(&specs[i])
		pl.env.kv.resize(specs[i].KV)
		switch {
		case m == nil:
		case pl.live() == nil:
			r.add(pl, pl.install(m)) // before the routes name the plugin
		default:
			after = append(after, func() { r.add(pl, pl.install(m)) })
		}
		if distrusted { // behind the installation, which makes the module before the fallback
			after = append(after, func() { r.add(pl, pl.revokeFallback()) })
		}
	}
	for _, pl := range order {
		if pl.spec.Load().OnError != OnErrorLastGood {
			after = append(after, func() { r.add(pl, pl.revokeFallback()) })
		}
	}
	for name, pl := range p.plugins {
		if next[name] == nil {
			after = append(after, func() { r.add(pl, pl.remove()) })
		}
	}
	p.plugins = next
	p.order.Store(&order)
	routes := newRoutes(bind(specs, next), p.seed)
	p.routes.Store(routes)
	for _, f := range after {
		f()
	}
	for _, pl := range order {
		if m := modules[pl.name]; m != nil {
			p.startTicks(pl, m)
		}
		if m := pl.live(); m != nil { // its groups and the number of its instances may be others now
			pl.resuming.retain(p.boundTo(pl), len(m.slots))
		}
	}
	if f := p.onReclassify.Load(); f != nil && !slices.EqualFunc(classifiers, routes.classifiers(), classifier.equal) {
		(*f)()
	}
	return r
}

// checkSpecs fills in defaults and checks each spec, their names, and their references to each other.
func checkSpecs(specs []Spec) ([]Spec, error) {
	out := make([]Spec, len(specs))
	var faults []error
	byName := map[string]*Spec{}
	for i, s := range specs {
		s, err := s.withDefaults()
		if err != nil {
			faults = append(faults, err)
		}
		if byName[s.Name] != nil {
			faults = append(faults, fmt.Errorf("plugin %s is defined twice; rename one of them", s.Name))
		}
		out[i] = s
		byName[s.Name] = &out[i]
	}
	for _, s := range out {
		if s.ShadowOf == "" {
			continue
		}
		if o := byName[s.ShadowOf]; o == nil || o.Shadow {
			faults = append(faults, fmt.Errorf(
				"plugin %s shadows %s, which is not a plugin with effect; name another plugin", s.Name, s.ShadowOf))
		}
	}
	return out, errors.Join(faults...)
}

// bind returns the bindings of the specs, in order; shadows of another plugin belong to the binding of that plugin.
func bind(specs []Spec, plugins map[string]*plugin) (bindings []binding) {
	for _, s := range specs {
		if s.ShadowOf != "" {
			continue
		}
		b := binding{step: step{plugin: plugins[s.Name], shadow: s.Shadow}, patterns: s.Groups}
		for _, o := range specs {
			if o.ShadowOf == s.Name {
				b.shadows = append(b.shadows, plugins[o.Name])
			}
		}
		bindings = append(bindings, b)
	}
	return bindings
}

// Deploy replaces the module of a plugin and keeps the plugin's settings. The new module is compiled, checked and
// started first. If the new module is rejected, the old module keeps running. The swap happens between two events.
// Other changes are made meanwhile: Deploy takes their settings, and returns ErrOutdated if they have replaced the
// plugin's module. Deploy returns when the old module is drained and freed.
func (p *Pipeline) Deploy(ctx context.Context, name string, wasm []byte) error {
	spec, err := p.spec(name)
	if err != nil {
		return err
	}
	before := spec.Wasm
	spec.Wasm = wasm
	prepared, err := p.Prepare(ctx, spec)
	if err != nil {
		return err
	}
	defer prepared.Close()
	for {
		if err = p.Install(prepared); !errors.Is(err, ErrOutdated) {
			return err
		}
		if spec, err = p.spec(name); err != nil {
			return err
		}
		if !bytes.Equal(spec.Wasm, before) {
			return fmt.Errorf("plugin %s: another module was deployed meanwhile: %w", name, ErrOutdated)
		}
		spec.Wasm = wasm
		if err = prepared.reset(spec); err != nil {
			return err
		}
		if err = prepared.Refresh(ctx); err != nil {
			return err
		}
	}
}

// spec returns the current settings of a plugin.
func (p *Pipeline) spec(name string) (Spec, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Spec{}, ErrClosed
	}
	pl := p.plugins[name]
	if pl == nil {
		return Spec{}, unknownPlugin(name)
	}
	return *pl.spec.Load(), nil
}

// Check compiles a plugin, checks it against the ABI and its samples, and frees it: Apply without effect. To deploy
// the module afterwards, use [Pipeline.Prepare] and [Pipeline.Install], which compile it once.
func (p *Pipeline) Check(ctx context.Context, spec Spec) error {
	spec, err := spec.withDefaults()
	if err != nil {
		return err
	}
	ctx, release, err := p.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	return p.check(ctx, spec)
}

// check loads a module into an environment that is thrown away.
func (p *Pipeline) check(ctx context.Context, spec Spec) error {
	log := newLogbook(slog.New(slog.DiscardHandler), spec.Name, p.host.now)
	m, err := p.load(ctx, spec, scratchEnvironment(log, spec.KV, p.host.now))
	if err != nil {
		return err
	}
	m.close()
	return nil
}

// SetSamples sets the samples that later modules of a plugin must pass. The live module keeps running; CheckLive
// reports whether it passes them.
func (p *Pipeline) SetSamples(name string, samples []Sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pl := p.plugins[name]; pl != nil {
		spec := *pl.spec.Load()
		spec.Samples = samples
		pl.spec.Store(&spec)
	}
}

// CheckLive tries a plugin's live module on its samples, in an instance of its own.
func (p *Pipeline) CheckLive(ctx context.Context, name string) error {
	spec, err := p.spec(name)
	if err != nil {
		return err
	}
	return p.Check(ctx, spec)
}

// Close drains and frees all modules. It cancels changes in flight, which fail with ErrClosed, and does not wait for
// their compilers. Afterwards the events of groups with plugins are dropped, and subscriptions to these groups are
// denied: clients that are still connected must not get what a plugin kept from them.
func (p *Pipeline) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.stop(ErrClosed)
	var r retirement
	for _, pl := range p.plugins {
		r.add(pl, pl.remove())
	}
	p.plugins = map[string]*plugin{}
	p.order.Store(new([]*plugin))
	p.mu.Unlock()
	r.close()
	p.ticks.Wait()
	p.host.codes.awaitCompiler()
	return nil
}
