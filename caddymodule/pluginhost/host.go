package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/lanes"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
)

// Host runs the plugins of a node. A host lives as long as the node, so that instances survive reloads. All methods are
// safe for concurrent use.
type Host struct {
	hub      *hub.Hub
	log      *slog.Logger
	Pipeline *plugins.Pipeline
	Lanes    *lanes.Lanes
	loading  *atomic.Pointer[plugins.Limits]
	stop     context.CancelFunc
	watching sync.WaitGroup

	// mu serializes changes and guards store and sources. A change holds mu while modules compile.
	mu    sync.Mutex
	store Store
	// sources has the function that leaves a group, for each group that plugins need.
	sources map[string]func()

	// publishedMu guards running for readers that must not wait for a change. Writers hold mu as well.
	publishedMu sync.Mutex
	// running is in the order of the pipeline.
	running []*runningPlugin
}

// joinTimeout bounds how long a reload waits to join plugins' groups.
const joinTimeout = 2 * time.Second

// runningPlugin is a configured plugin with the current module.
type runningPlugin struct {
	*Plugin
	module   moduleVersion
	previous []byte // the module for a rollback, or nil
	file     fileState
	rejected rejection
}

// moduleVersion is a module with origin and time.
type moduleVersion struct {
	wasm []byte
	// from is "file" or "deploy".
	from string
	// at is the time of the file's change or of the deployment. The newest version runs.
	at time.Time
}

// rejection is a new version that failed a check.
type rejection struct {
	from    string // "file", "deploy", "storage" or "samples"
	version string // identifies the version: a rejection is logged once
	err     error
}

// New starts a host without plugins. The host logs to log. The plugins' own lines go to lines; the pipeline bounds
// their number.
func New(hub *hub.Hub, log, lines *slog.Logger) (*Host, error) {
	loading := new(atomic.Pointer[plugins.Limits])
	loading.Store(new(plugins.Limits))
	pipeline, err := newPipeline(func() plugins.Limits { return *loading.Load() }, lines)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	h := &Host{
		hub: hub, log: log, Pipeline: pipeline, loading: loading, stop: stop, sources: map[string]func(){},
	}
	// The broadcast group carries a copy of every event between AWX's nodes: no plugin processes the copies.
	h.Lanes = lanes.New(pipeline, hub.Forward, lanes.Options{Exempt: []string{awx.BroadcastGroup}, Losses: hub})
	h.watching.Go(func() { h.watch(ctx) })
	hub.SetInterceptor(h.Lanes)
	return h, nil
}

// SetLoading sets the limits of later compilations.
func (h *Host) SetLoading(limits plugins.Limits) { h.loading.Store(&limits) }

// Apply makes list the pipeline, with the newest module of each plugin. A rejected module changes nothing.
func (h *Host) Apply(ctx context.Context, list []*Plugin, store Store) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next, err := load(ctx, list, store)
	if err != nil {
		return err
	}
	for _, p := range next {
		if old := h.find(p.Name); old != nil {
			p.previous = old.previous
			if old.module.hash() != p.module.hash() {
				p.previous = old.module.wasm
			}
		}
	}
	if err := h.Lanes.Apply(ctx, specs(next)); err != nil {
		return fmt.Errorf("edgerelay: %w", err)
	}
	h.store = store
	h.publish(func() { h.running = next })
	h.joinSources()
	return nil
}

// load reads the newest module of each plugin.
func load(ctx context.Context, list []*Plugin, store Store) ([]*runningPlugin, error) {
	next := make([]*runningPlugin, len(list))
	var faults []error
	for i, p := range list {
		next[i] = &runningPlugin{Plugin: p}
		if err := next[i].load(ctx, store); err != nil {
			faults = append(faults, fmt.Errorf("edgerelay: %w", err))
		}
	}
	return next, errors.Join(faults...)
}

func (p *runningPlugin) load(ctx context.Context, store Store) error {
	var fileErr error
	if p.file, fileErr = stateOf(p.Plugin.path); fileErr == nil {
		p.module.wasm, fileErr = os.ReadFile(p.Plugin.path)
		p.module.from, p.module.at = "file", p.file.changed
	}
	d, err := store.lastDeployment(ctx, p.Name)
	if err != nil {
		return err
	}
	if d == nil || fileErr == nil && !d.At.After(p.module.at) {
		if fileErr != nil {
			return fmt.Errorf("plugin %s: read its module: %w", p.Name, fileErr)
		}
		return nil
	}
	if p.module, err = deployed(ctx, store, p.Name, d); err != nil {
		return err
	}
	if d.Previous != "" {
		p.previous, err = store.loadModule(ctx, p.Name, d.Previous)
		if errors.Is(err, fs.ErrNotExist) { // without this module, only a rollback is impossible
			p.previous, err = nil, nil
		}
	}
	return err
}

// deployed loads the module of a deployment.
func deployed(ctx context.Context, store Store, name string, d *deployment) (moduleVersion, error) {
	wasm, err := store.loadModule(ctx, name, d.Hash)
	return moduleVersion{wasm: wasm, from: "deploy", at: d.At}, err
}

func (v *moduleVersion) hash() string { return plugins.Hash(v.wasm) }

// Check compiles and checks the plugins like [Host.Apply], without effect, for `caddy validate`.
func Check(ctx context.Context, list []*Plugin, store Store, loading plugins.Limits) error {
	if len(list) == 0 {
		return nil
	}
	next, err := load(ctx, list, store)
	if err != nil {
		return err
	}
	pipeline, err := newPipeline(func() plugins.Limits { return loading }, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { _ = pipeline.Close() }()
	if err := pipeline.Apply(ctx, specs(next)); err != nil {
		return fmt.Errorf("edgerelay: %w", err)
	}
	return nil
}

// specs returns the settings and current modules of plugins.
func specs(list []*runningPlugin) []plugins.Spec {
	specs := make([]plugins.Spec, len(list))
	for i, p := range list {
		specs[i] = p.spec
		specs[i].Wasm = p.module.wasm
	}
	return specs
}

// find returns a running plugin by name, or nil. The caller holds h.mu or h.publishedMu.
func (h *Host) find(name string) *runningPlugin {
	for _, p := range h.running {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Errors of [Host.Deploy] and [Host.Rollback].
var (
	ErrUnknownPlugin = errors.New("plugin not configured")
	ErrNoPrevious    = errors.New("no previous module to roll back to")
)

// Deploy makes wasm the module of a plugin on every node that shares the storage. A rejected module changes nothing.
func (h *Host) Deploy(ctx context.Context, name string, wasm []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.deployLocked(ctx, name, wasm)
}

func (h *Host) deployLocked(ctx context.Context, name string, wasm []byte) error {
	p := h.find(name)
	if p == nil {
		return fmt.Errorf("%q: %w", name, ErrUnknownPlugin)
	}
	spec := p.spec
	spec.Wasm = wasm
	if err := h.Pipeline.Check(ctx, spec); err != nil {
		return err
	}
	previous := p.module.wasm
	if p.module.hash() == plugins.Hash(wasm) {
		previous = p.previous
	}
	d, err := h.store.deploy(ctx, name, wasm, previous)
	if d == nil {
		return err
	}
	if err != nil {
		h.log.Warn("plugin deployment lock not released", "plugin", name, "error", err)
	}
	return h.swapModule(ctx, p, moduleVersion{wasm: wasm, from: "deploy", at: d.At})
}

// Rollback deploys the previous module.
// See docs/decisions/plugins.md#why-does-a-rollback-deploy-the-previous-module
func (h *Host) Rollback(ctx context.Context, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.find(name)
	if p == nil {
		return fmt.Errorf("%q: %w", name, ErrUnknownPlugin)
	}
	if p.previous == nil {
		return fmt.Errorf("%q: %w", name, ErrNoPrevious)
	}
	return h.deployLocked(ctx, name, p.previous)
}

// swapModule replaces the running module of p. The caller holds h.mu.
func (h *Host) swapModule(ctx context.Context, p *runningPlugin, v moduleVersion) error {
	if err := h.Pipeline.Deploy(ctx, p.Name, v.wasm); err != nil {
		return err
	}
	before := p.module
	h.publish(func() {
		if before.hash() != v.hash() {
			p.previous = before.wasm
		}
		p.module, p.rejected = v, rejection{}
	})
	if before.hash() != v.hash() {
		h.log.Info("plugin module replaced",
			"plugin", p.Name, "from", v.from, "hash", v.hash(), "before", before.hash())
	}
	return nil
}

// publish runs change under the lock of readers. The caller holds h.mu.
func (h *Host) publish(change func()) {
	h.publishedMu.Lock()
	defer h.publishedMu.Unlock()
	change()
}

// joinSources joins the groups of plugins that may emit, so that such a plugin receives events even if no client of
// this node is subscribed. A node cannot join patterns. The caller holds h.mu.
func (h *Host) joinSources() {
	wanted := map[string]bool{}
	for _, p := range h.running {
		if p.Shadow || p.ShadowOf != "" || !slices.Contains(p.Grants, string(plugins.GrantEmit)) {
			continue
		}
		for _, g := range p.Groups {
			if !strings.Contains(g, "*") && relay.ValidGroup(g) {
				wanted[g] = true
			}
		}
	}
	for g, leave := range h.sources {
		if !wanted[g] {
			leave()
			delete(h.sources, g)
		}
	}
	// Joins that take longer continue in the layer.
	ctx, cancel := context.WithTimeout(context.Background(), joinTimeout)
	defer cancel()
	for g := range wanted {
		if h.sources[g] == nil {
			h.sources[g] = h.hub.Listen(ctx, g, func(relay.Event) {})
		}
	}
}

// Close ends all plugins and drops later events of the plugins' groups.
func (h *Host) Close() error {
	h.stop()
	h.watching.Wait()
	h.Lanes.Close()
	return h.Pipeline.Close()
}
