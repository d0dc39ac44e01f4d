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

// Options are what a Pipeline needs from its surroundings.
type Options struct {
	// CacheDir keeps compiled modules between runs; empty: in memory only. It is created with mode 0700 and refused if others may
	// write to it: whoever can, runs code in this process.
	CacheDir string
	// Logger receives the plugins' lines, at a bounded rate each; default slog.Default().
	Logger *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time

	startWait time.Duration // default defaultStartWait
}

// host is what all modules share.
type host struct {
	cache wazero.CompilationCache
	// compiling has a *sync.Mutex for each metered module, by its hash.
	compiling sync.Map
	logger    *slog.Logger
	now       func() time.Time

	startWait time.Duration
}

// New returns an empty Pipeline, which passes every event. Close it after use.
func New(o Options) (*Pipeline, error) {
	h := &host{logger: o.Logger, now: o.Now, startWait: o.startWait}
	def(&h.startWait, defaultStartWait)
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

func openCache(dir string) (wazero.CompilationCache, error) {
	if dir == "" {
		return wazero.NewCompilationCache(), nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache of compiled plugins: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open the cache of compiled plugins: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("the cache of compiled plugins %s may be written by others (mode %#o), who could run code in this process: chmod 700 it", dir, info.Mode().Perm())
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open the cache of compiled plugins: %w", err)
	}
	return cache, nil
}

// ErrClosed is returned by changes to a Pipeline that is closed.
var ErrClosed = errors.New("the pipeline is closed")

// Apply makes the specs, in their order, the pipeline. Modules whose bytes and settings are unchanged keep running, instances and all;
// the others are compiled, checked and started first. If any is refused, nothing changes and the error tells of all of them.
// Events are processed meanwhile; what was replaced is drained and freed before Apply returns.
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
			if same { // it only has to be right about other samples
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
		return err
	}

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
			pl.install(loaded[i]) // nothing to drain, and it must be there before the routes name it
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
	return nil
}

// checkSpecs fills in defaults and looks at what specs say of each other.
func checkSpecs(specs []Spec) ([]Spec, error) {
	out := make([]Spec, len(specs))
	var faults []error
	seen := map[string]*Spec{}
	for i, s := range specs {
		s, err := s.withDefaults()
		if err != nil {
			faults = append(faults, err)
		}
		if seen[s.Name] != nil {
			faults = append(faults, fmt.Errorf("plugin %s is there twice: give one of them another name", s.Name))
		}
		out[i] = s
		seen[s.Name] = &out[i]
	}
	for _, s := range out {
		if s.ShadowOf == "" {
			continue
		}
		if o := seen[s.ShadowOf]; o == nil || o.Shadow {
			faults = append(faults, fmt.Errorf("plugin %s is to shadow %s, which is no plugin in effect", s.Name, s.ShadowOf))
		}
	}
	return out, errors.Join(faults...)
}

// bind makes the chain of bindings.
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

// Deploy replaces one plugin's module and keeps everything else about it. The new one is compiled, checked and started first; if it is
// refused, the old one goes on. The swap happens between two events; Deploy returns when the old module is drained and freed.
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

// Check compiles a plugin, holds it to the ABI, tries its samples and frees it again: what Apply would do, without effect.
func (p *Pipeline) Check(ctx context.Context, spec Spec) error {
	spec, err := spec.withDefaults()
	if err != nil {
		return err
	}
	return p.host.check(ctx, spec)
}

func (h *host) check(ctx context.Context, spec Spec) error {
	m, err := h.load(ctx, spec, h.scratch(spec))
	if err != nil {
		return err
	}
	m.close()
	return nil
}

// SetSamples makes samples what later modules of a plugin must get right. The running one goes on; Hold tells whether
// it does.
func (p *Pipeline) SetSamples(name string, samples []Sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pl := p.plugins[name]; pl != nil {
		spec := *pl.spec.Load()
		spec.Samples = samples
		pl.spec.Store(&spec)
	}
}

// Hold tries a plugin's running module on its samples, in an instance of its own.
func (p *Pipeline) Hold(ctx context.Context, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.plugins[name]
	if pl == nil {
		return unknownPlugin(name)
	}
	return p.host.check(ctx, *pl.spec.Load())
}

// Close drains and frees everything. Afterwards the events of groups that had plugins end here, and subscriptions to
// them are denied: what a plugin kept from clients must not reach the last of them.
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
