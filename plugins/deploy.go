package plugins

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
)

// Options are the settings of a Pipeline.
type Options struct {
	// CacheDir keeps compiled modules between runs; empty: in memory only. The directory is created with mode 0700. A
	// directory that other users may write to is rejected: such a user could run code in this process.
	CacheDir string
	// Logger receives the plugins' log lines, at a bounded rate per plugin. Default: slog.Default().
	Logger *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time

	startWait time.Duration // default: defaultStartWait
}

// host holds the parts that all modules of a Pipeline share.
type host struct {
	cache wazero.CompilationCache
	// compiling maps the hash of a metered module to a *sync.Mutex.
	compiling sync.Map
	logger    *slog.Logger
	now       func() time.Time
	startWait time.Duration
}

// New returns an empty Pipeline, which passes every event. The caller closes it.
func New(o Options) (*Pipeline, error) {
	h := &host{logger: o.Logger, now: o.Now, startWait: o.startWait}
	setDefault(&h.startWait, defaultStartWait)
	if h.logger == nil {
		h.logger = slog.Default()
	}
	if h.now == nil {
		h.now = time.Now
	}
	var err error
	if h.cache, err = openCache(o.CacheDir); err != nil {
		return nil, err
	}
	p := &Pipeline{host: h, seed: maphash.MakeSeed(), plugins: map[string]*plugin{}}
	p.routes.Store(newRoutes(nil, p.seed))
	p.order.Store(new([]*plugin))
	return p, nil
}

// openCache opens the cache of compiled modules; an empty dir is a cache in memory.
func openCache(dir string) (wazero.CompilationCache, error) {
	if dir == "" {
		return wazero.NewCompilationCache(), nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the plugin cache: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open the plugin cache: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf(
			"open the plugin cache %s: mode %#o lets other users run code in this process; use chmod 700",
			dir, info.Mode().Perm())
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open the plugin cache: %w", err)
	}
	return cache, nil
}

// ErrClosed is returned by changes to a closed Pipeline.
var ErrClosed = errors.New("plugin pipeline closed")

// Apply makes the specs, in their order, the pipeline. Modules with unchanged bytes and settings keep running with
// their instances. All other modules are compiled, checked and started first. If any of them is rejected, nothing
// changes and the error lists all faults. Events are processed meanwhile. Apply returns when the replaced modules are
// drained and freed.
func (p *Pipeline) Apply(ctx context.Context, specs []Spec) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	specs, err := checkSpecs(specs)
	if err != nil {
		return err
	}

	next, loaded, err := p.loadAll(ctx, specs)
	if err != nil {
		return err
	}
	p.switchTo(specs, next, loaded)
	return nil
}

// loadAll loads the modules that specs add or change. It returns the plugins by name, and for each spec the loaded
// module, nil if the live module stays.
func (p *Pipeline) loadAll(ctx context.Context, specs []Spec) (map[string]*plugin, []*module, error) {
	next := make(map[string]*plugin, len(specs))
	loaded := make([]*module, len(specs))
	faults := make([]error, len(specs))
	var wg sync.WaitGroup
	parallel := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, spec := range specs {
		pl := p.plugins[spec.Name]
		if pl == nil {
			pl = newPlugin(spec.Name, p.host.logger, spec.KV, p.host.now)
		}
		next[spec.Name] = pl
		m := pl.live()
		same := m != nil && m.key == spec.key()
		if same && pl.spec.Load().samplesKey() == spec.samplesKey() {
			continue
		}
		wg.Go(func() {
			parallel <- struct{}{}
			defer func() { <-parallel }()
			if same { // only the samples have changed
				faults[i] = p.host.check(ctx, spec)
			} else {
				loaded[i], faults[i] = p.host.load(ctx, spec, pl.env)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(faults...); err != nil {
		for _, m := range loaded {
			if m != nil {
				m.close()
			}
		}
		return nil, nil, err
	}
	return next, loaded, nil
}

// switchTo makes the plugins and their loaded modules the pipeline, and then drains the replaced modules.
func (p *Pipeline) switchTo(specs []Spec, next map[string]*plugin, loaded []*module) {
	var drain []func()
	order := make([]*plugin, len(specs))
	for i := range specs {
		pl := next[specs[i].Name]
		order[i] = pl
		pl.spec.Store(&specs[i])
		pl.env.kv.resize(specs[i].KV)
		if loaded[i] == nil {
			continue
		}
		if pl.live() == nil {
			pl.install(loaded[i]) // before the routes name the plugin; there is nothing to drain
		} else {
			drain = append(drain, func() { pl.install(loaded[i]) })
		}
	}
	for _, pl := range next {
		if pl.spec.Load().OnError != OnErrorLastGood {
			drain = append(drain, pl.revokeFallback)
		}
	}
	for name, pl := range p.plugins {
		if next[name] == nil {
			drain = append(drain, pl.remove)
		}
	}
	p.plugins = next
	p.order.Store(&order)
	p.routes.Store(newRoutes(bind(specs, next), p.seed))
	for _, f := range drain {
		f()
	}
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
// Deploy returns when the old module is drained and freed.
func (p *Pipeline) Deploy(ctx context.Context, name string, wasm []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	pl := p.plugins[name]
	if pl == nil {
		return unknownPlugin(name)
	}
	spec := *pl.spec.Load()
	spec.Wasm = wasm
	spec, err := spec.withDefaults()
	if err != nil {
		return err
	}
	if m := pl.live(); m != nil && m.key == spec.key() {
		return nil
	}
	m, err := p.host.load(ctx, spec, pl.env)
	if err != nil {
		return err
	}
	pl.spec.Store(&spec)
	pl.install(m)
	return nil
}

// Check compiles a plugin, checks it against the ABI and its samples, and frees it: Apply without effect.
func (p *Pipeline) Check(ctx context.Context, spec Spec) error {
	spec, err := spec.withDefaults()
	if err != nil {
		return err
	}
	return p.host.check(ctx, spec)
}

func (h *host) check(ctx context.Context, spec Spec) error {
	log := newLogbook(slog.New(slog.DiscardHandler), spec.Name, h.now)
	m, err := h.load(ctx, spec, scratchEnvironment(log, spec.KV, h.now))
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
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.plugins[name]
	if pl == nil {
		return unknownPlugin(name)
	}
	return p.host.check(ctx, *pl.spec.Load())
}

// Close drains and frees all modules. Afterwards the events of groups with plugins are dropped, and subscriptions to
// these groups are denied: clients that are still connected must not get what a plugin kept from them.
func (p *Pipeline) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	for _, pl := range p.plugins {
		pl.remove()
	}
	p.plugins = map[string]*plugin{}
	p.order.Store(new([]*plugin))
	return p.host.cache.Close(context.Background())
}
