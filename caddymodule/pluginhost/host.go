package pluginhost

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/internal/lanes"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
)

// Host runs the plugins of a node. A host lives as long as the node, so that instances survive reloads. All methods are
// safe for concurrent use.
//
// No lock is held while a module compiles or while the storage answers. A change prepares a module without a lock, and
// installs it only if the plugin is still as the change found it.
type Host struct {
	hub      *hub.Hub
	log      *slog.Logger
	Pipeline *plugins.Pipeline
	Lanes    *lanes.Lanes
	memories *memories
	loading  *atomic.Pointer[plugins.Limits]

	messages   chan message // of plugins without a client
	queued     atomic.Int64 // places of messages that are taken
	sent       sentMessages
	closing    context.Context
	stop       context.CancelFunc
	self       reporter
	watching   sync.WaitGroup
	background sync.WaitGroup // short work with the storage
	// taken counts the messages that the layer has taken.
	taken atomic.Uint64
	// earlierTimeout is the constant of the same name. Tests replace it.
	earlierTimeout time.Duration

	// mu serializes installations, and guards the fields below. Writers of running hold it, too.
	mu      sync.Mutex
	store   Store
	changes map[string]*changeLock
	former  map[*Plugin]*runningPlugin // before the last installation
	// canaries are the canaries that run on this node.
	canaries map[string]localCanary

	// publishedMu guards running and the fields of its elements for readers that must not wait for an installation.
	publishedMu sync.Mutex
	// running is in the order of the pipeline.
	running []*runningPlugin

	// countsMu guards refused, the number of modules whose signature was refused, and takenBack, the number of canaries
	// that this node took back, both by plugin.
	countsMu           sync.Mutex
	refused, takenBack map[string]uint64

	// sourcesMu guards sources and watched.
	sourcesMu sync.Mutex
	// sources and watched have the function that leaves a group, for each group that plugins need or watch.
	sources, watched map[string]func()

	// servicesMu serializes changes of services.
	servicesMu sync.Mutex
	services   atomic.Pointer[plugins.Services]
	requests   *requests
}

const (
	// backgroundTimeout bounds how long Close waits for the storage.
	backgroundTimeout = 2 * time.Second
)

// runningPlugin is a configured plugin with the current module.
type runningPlugin struct {
	*Plugin
	module *version
	// previous is the file that ran before, for a rollback without a history; or nil.
	previous *version
	// record is the history as this node last saw it, nil if there is none.
	record   *record
	memory   memory
	rejected rejection

	file    fileState // that was last read
	hash    string    // of that file, empty if it cannot be read
	samples []plugins.Sample
	sampled fileState // of the file with the samples
}

// rejection is a new version that failed a check.
type rejection struct {
	from    string // "file", "deploy", "storage", "samples", "secrets" or "canary"
	version string // identifies the version: a rejection is logged once
	err     error
}

func newMemories(log *slog.Logger) *memories {
	return &memories{dir: filepath.Join(caddy.AppDataDir(), "edgerelay", "plugins-state"), log: log}
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
	h := &Host{
		hub: hub, log: log, Pipeline: pipeline, memories: newMemories(log), loading: loading,
		changes: map[string]*changeLock{}, sources: map[string]func(){}, watched: map[string]func(){},
		self: newReporter(), canaries: map[string]localCanary{}, refused: map[string]uint64{}, takenBack: map[string]uint64{},
		messages: make(chan message, maxPublishing), earlierTimeout: earlierTimeout,
	}
	h.requests = newRequests(h, log)
	h.UseServices(func(s *plugins.Services) { s.Fetch = h.requests })
	h.closing, h.stop = context.WithCancel(context.Background())
	// The broadcast group carries a copy of every event between AWX's nodes: no plugin processes the copies.
	h.Lanes = lanes.New(pipeline, hub.Forward, lanes.Options{
		Exempt: []string{awx.BroadcastGroup}, Losses: hub, Reclassify: hub.Reclassify,
	})
	h.watching.Go(h.watch)
	h.watching.Go(h.reportAlways)
	h.watching.Go(h.sendMessages)
	pipeline.SetPublisher(h.enqueue)
	hub.SetInterceptor(h.Lanes)
	return h, nil
}

// SetLoading sets the limits of later compilations.
func (h *Host) SetLoading(limits plugins.Limits) { h.loading.Store(&limits) }

// find returns a running plugin by name, or nil. The caller holds h.mu or h.publishedMu.
func (h *Host) find(name string) *runningPlugin {
	for _, p := range h.running {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// snapshot returns copies of the running plugins, in order, and the storage.
func (h *Host) snapshot() ([]runningPlugin, Store) {
	h.mu.Lock()
	store := h.store
	h.mu.Unlock()
	h.publishedMu.Lock()
	defer h.publishedMu.Unlock()
	list := make([]runningPlugin, len(h.running))
	for i, p := range h.running {
		list[i] = *p
	}
	return list, store
}

// lookUp returns a copy of a running plugin, and the storage.
func (h *Host) lookUp(name string) (runningPlugin, Store, bool) {
	list, store := h.snapshot()
	i := slices.IndexFunc(list, func(p runningPlugin) bool { return p.Name == name })
	if i < 0 {
		return runningPlugin{}, store, false
	}
	return list[i], store, true
}

// change runs f on a running plugin if it is still configured as configured says, and reports whether it is.
func (h *Host) change(configured *Plugin, f func(*runningPlugin)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.find(configured.Name)
	if p == nil || p.Plugin != configured {
		return false
	}
	h.publish(func() { f(p) })
	return true
}

// publish runs change under the lock of readers. The caller holds h.mu.
func (h *Host) publish(change func()) {
	h.publishedMu.Lock()
	defer h.publishedMu.Unlock()
	change()
}

// install makes v the running version of a plugin. It returns [errStale] if the plugin is configured differently by
// now. changed sets further fields.
func (h *Host) install(
	ctx context.Context, v *version, prepared *plugins.Prepared, changed func(*runningPlugin),
) error {
	for {
		err := h.tryInstall(v, prepared, changed)
		if !errors.Is(err, plugins.ErrOutdated) {
			return err
		}
		if err := prepared.Refresh(ctx); err != nil {
			return err
		}
	}
}

func (h *Host) tryInstall(v *version, prepared *plugins.Prepared, changed func(*runningPlugin)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.find(v.configured.Name)
	if p == nil || p.Plugin != v.configured {
		return errStale
	}
	if err := h.Lanes.Install(prepared); err != nil {
		return err
	}
	before := p.module
	h.publish(func() {
		if before.hash != v.hash && before.from == FromFile {
			p.previous = before
		}
		p.module = v
		changed(p)
	})
	if before.hash != v.hash {
		h.log.Info("plugin module replaced", "plugin", p.Name, "from", string(v.from), "version", v.number(),
			"hash", v.hash, "before", before.hash)
	}
	return nil
}

// errStale tells that a plugin's configuration or module has changed since a change was prepared.
var errStale = errors.New("the plugins have changed meanwhile")

// commit keeps the state of a node that runs v, for the next start and for nodes with the same file.
func (h *Host) commit(store Store, v *version) {
	var state memory
	current := false
	h.change(v.configured, func(p *runningPlugin) {
		if current = p.module.from == v.from && p.module.hash == v.hash; current {
			p.memory.nodeState = v.next
			state = p.memory
		}
	})
	if !current { // another change was faster
		return
	}
	if v.next == (nodeState{}) && len(state.Refusals) == 0 {
		return
	}
	h.memories.save(v.configured, store, state)
	e, file := v.entry, v.next.File
	if e == nil || v.next.Runs != FromDeploy || v.next.ID != e.ID || file == "" || slices.Contains(e.Files, file) {
		return
	}
	h.background.Go(func() {
		if err := store.addFile(h.closing, v.configured.Name, e.ID, file); err != nil && h.closing.Err() == nil {
			h.log.Warn("plugin file not recorded with its deployment", "plugin", v.configured.Name, "error", err,
				"effect", "a new container with this file runs the file instead of the deployment")
		}
	})
}

// Close ends all plugins and drops later events of the plugins' groups. It does not wait for changes in progress, which
// fail.
func (h *Host) Close() error {
	h.stop()
	h.watching.Wait()
	done := make(chan struct{})
	go func() {
		h.background.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(backgroundTimeout):
	}
	h.Lanes.Close()
	h.requests.close()
	return h.Pipeline.Close()
}
