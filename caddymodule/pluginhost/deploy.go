package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/edgerelay/edgerelay/plugins"
)

// Errors of [Host.Deploy], [Host.Rollback] and [Host.Undeploy].
var (
	ErrUnknownPlugin  = errors.New("plugin not configured")
	ErrUnknownVersion = errors.New("version not in the history")
	ErrNoPrevious     = errors.New("no previous module to roll back to")
	ErrNotDeployed    = errors.New("no deployment to take back; the file runs")
	ErrInvalidChange  = errors.New("invalid change")
)

// ChangedError is returned if another module runs than the caller expects.
type ChangedError struct {
	// Hash is the hash of the module that runs, or that another node has deployed.
	Hash string
}

// Error names the current hash and the remedy.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("the plugin has changed: the current hash is %s; look at the change and repeat yours", e.Hash)
}

// Change describes a change of a plugin's module.
type Change struct {
	// By and Message tell who makes the change and why.
	By, Message string
	// Expect are hashes of modules, "*" for any. Unless it is empty, the change is made only if one of them runs.
	Expect []string
	// Settings, of a deployment, override the settings of each node's plugin.
	Settings []byte
	// To, of a rollback, is the version to return to; 0: the one before.
	To uint64
	// Force, of a rollback, skips the samples, and only the samples.
	Force bool
}

const (
	maxBy      = 128  // bytes
	maxMessage = 1024 // bytes
	maxTries   = 5    // of a change, when other nodes change the plugin at the same time
)

// check checks the texts, which lists and terminals show.
func (c *Change) check() error {
	for _, t := range []struct {
		name, text string
		limit      int
	}{{"by", c.By, maxBy}, {"message", c.Message, maxMessage}} {
		if len(t.text) > t.limit || strings.ContainsFunc(t.text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("%w: %s must be a line of at most %d printable bytes", ErrInvalidChange, t.name, t.limit)
		}
	}
	return nil
}

// Deploy makes wasm the module of a plugin on every node that shares the storage. A rejected module changes nothing.
func (h *Host) Deploy(ctx context.Context, name string, wasm []byte, c Change) error {
	settings, err := parseSettings(c.Settings)
	if err != nil {
		return err
	}
	return h.changeModule(ctx, name, c, true, func(s *situation) (*target, error) {
		e := &entry{Hash: plugins.Hash(wasm), Size: len(wasm), Origin: OriginDeploy, Settings: settings}
		return s.deploy(e, wasm)
	})
}

// Rollback deploys an earlier version again. An earlier undeployment lets the files run.
// See docs/decisions/plugins.md#why-does-a-rollback-deploy-the-previous-module
func (h *Host) Rollback(ctx context.Context, name string, c Change) error {
	return h.changeModule(ctx, name, c, false, func(s *situation) (*target, error) {
		of, wasm, err := s.earlier(ctx, c.To)
		if err != nil {
			return nil, err
		}
		if of != nil && of.Undeployed {
			return s.undeploy(&entry{Origin: OriginRollback, Of: of.Version})
		}
		e := &entry{Hash: plugins.Hash(wasm), Size: len(wasm), Origin: OriginRollback, Forced: c.Force}
		if of != nil {
			e.Of, e.Settings = of.Version, of.Settings
		}
		return s.deploy(e, wasm)
	})
}

// Undeploy takes the deployment of a plugin back: each node runs its file again.
func (h *Host) Undeploy(ctx context.Context, name string, c Change) error {
	return h.changeModule(ctx, name, c, false, func(s *situation) (*target, error) {
		if !s.record.last().live() && s.p.memory.ID == "" {
			return nil, ErrNotDeployed
		}
		if last := s.record.last(); last != nil && last.Undeployed {
			return nil, ErrNotDeployed
		}
		return s.undeploy(&entry{Origin: OriginUndeploy})
	})
}

// situation is the basis of a change.
type situation struct {
	p      runningPlugin
	store  Store
	file   fileContent
	record *record
}

// target is a version that a change makes, with its entry in the history.
type target struct {
	entry   *entry
	version *version
}

// deploy returns the target of a deployed module.
func (s *situation) deploy(e *entry, wasm []byte) (*target, error) {
	own, err := s.p.with(e.Settings)
	if err != nil {
		if len(e.Settings) > 0 {
			err = fmt.Errorf("%w: %w", ErrSettings, err)
		}
		return nil, err
	}
	if s.file.hash != "" {
		e.Files = []string{s.file.hash}
	}
	v := newVersion(FromDeploy, wasm, time.Time{}, e, s.p.Plugin, own)
	if v.manifest != nil {
		e.Module, e.ModuleVersion = v.manifest.Name, v.manifest.Version
	}
	return &target{e, v}, nil
}

// undeploy returns the target of a node that runs its file.
func (s *situation) undeploy(e *entry) (*target, error) {
	if s.file.err != nil {
		return nil, fmt.Errorf("plugin %s: the file that would run cannot be read: %w", s.p.Name, s.file.err)
	}
	own, err := s.p.with(nil)
	if err != nil {
		return nil, err
	}
	e.Hash, e.Size, e.Undeployed = s.file.hash, len(s.file.wasm), true
	v := newVersion(FromFile, s.file.wasm, s.file.state.changed, nil, s.p.Plugin, own)
	if v.manifest != nil {
		e.Module, e.ModuleVersion = v.manifest.Name, v.manifest.Version
	}
	return &target{e, v}, nil
}

// earlier returns the version that a rollback repeats, with its module. The version is nil if the module is a file that
// ran on this node before, without a history.
func (s *situation) earlier(ctx context.Context, to uint64) (*entry, []byte, error) {
	if to == 0 {
		e, wasm := s.p.beforeNow(s.record)
		if e == nil && wasm == nil {
			return nil, nil, ErrNoPrevious
		}
		if e == nil || e.Undeployed {
			return e, wasm, nil
		}
		wasm, err := s.store.loadModule(ctx, s.p.Name, e.Hash)
		return e, wasm, err
	}
	if s.record != nil {
		for _, e := range s.record.History {
			if e.Version != to {
				continue
			}
			if e.Undeployed {
				return e, nil, nil
			}
			wasm, err := s.store.loadModule(ctx, s.p.Name, e.Hash)
			return e, wasm, err
		}
	}
	return nil, nil, fmt.Errorf("version %d: %w; see the history", to, ErrUnknownVersion)
}

// beforeNow returns what a rollback returns to: a version, or the file that ran before, or neither.
func (p *runningPlugin) beforeNow(r *record) (*entry, []byte) {
	last := r.last()
	if last.live() && p.module.from == FromFile && last.Hash != p.module.hash { // the file has taken over
		return last, nil
	}
	if last != nil {
		if e := r.before(last); e != nil {
			return e, nil
		}
	}
	if p.module.from == FromFile {
		return nil, p.previous
	}
	return nil, nil
}

// current returns the hash of the module that runs, or that will run once this node has noticed what another node did.
func (s *situation) current() string {
	from, next := decide(s.p.memory.nodeState, s.record.last(), s.file.hash)
	switch {
	case next == s.p.memory.nodeState, s.record == nil:
		return s.p.module.hash
	case from == FromDeploy:
		return s.record.last().Hash
	}
	c := candidate{from: FromFile}
	if s.file.hash == "" || s.p.memory.refused(c.attempt(s.p.Plugin, s.p.samples, s.file.hash), now()) != "" {
		return s.p.module.hash
	}
	return s.file.hash
}

// changeModule makes a change: it prepares the target without a lock, adds the target to the history under the
// storage's lock, and installs it. If another node was faster, the change starts again from what that node did.
func (h *Host) changeModule(
	ctx context.Context, name string, c Change, replaceDamaged bool, choose func(*situation) (*target, error),
) error {
	if err := c.check(); err != nil {
		return err
	}
	if _, _, ok := h.lookUp(name); !ok {
		return fmt.Errorf("%q: %w", name, ErrUnknownPlugin)
	}
	release, err := h.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	for range maxTries {
		err := h.tryChange(ctx, name, c, replaceDamaged, choose)
		if !errors.Is(err, errStale) {
			return err
		}
	}
	return fmt.Errorf("plugin %s: %w", name, ErrBusy)
}

func (h *Host) tryChange(
	ctx context.Context, name string, c Change, replaceDamaged bool, choose func(*situation) (*target, error),
) error {
	s, err := h.situationOf(ctx, name, replaceDamaged)
	if err != nil {
		return err
	}
	if err := c.expects(s.current()); err != nil {
		return err
	}
	t, err := choose(s)
	if err != nil {
		return err
	}
	t.entry.By, t.entry.Message, t.entry.ID, t.entry.At = c.By, c.Message, newID(), time.Now()
	prepared, err := h.Pipeline.Prepare(ctx, t.version.spec(s.p.samples))
	switch {
	case err != nil && t.version.from == FromFile:
		return fmt.Errorf("the file would run, and it is rejected: %w; replace the file first", err)
	case err != nil:
		return err
	}
	defer prepared.Close()
	// From here on, the change is made even if the client goes away.
	ctx = context.WithoutCancel(ctx)
	r, err := s.write(ctx, t, replaceDamaged)
	if err != nil {
		if r == nil {
			return err
		}
		h.log.Warn("plugin deployment lock not released", "plugin", name, "error", err)
	}
	t.version.next = nodeState{ID: t.entry.ID, Version: t.entry.Version, File: s.file.hash, Runs: t.version.from}
	if t.version.from == FromDeploy {
		t.version.at = t.entry.At
	}
	err = h.install(ctx, t.version, prepared, func(p *runningPlugin) {
		p.record, p.rejected = r, rejection{}
		p.file, p.hash = s.file.state, s.file.hash
	})
	switch {
	case errors.Is(err, errStale): // a reload was faster; the watcher applies the version with the new settings
		h.log.Warn("plugin deployed during a reload", "plugin", name, "version", t.entry.Version)
		return nil
	case err != nil:
		return err
	}
	h.commit(s.store, t.version)
	h.joinSources()
	return nil
}

// situationOf returns the basis of a change.
func (h *Host) situationOf(ctx context.Context, name string, replaceDamaged bool) (*situation, error) {
	p, store, ok := h.lookUp(name)
	if !ok {
		return nil, fmt.Errorf("%q: %w", name, ErrUnknownPlugin)
	}
	s := &situation{p: p, store: store, file: readFile(p.path)}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	var err error
	s.record, err = store.load(ctx, name)
	if damaged := new(damagedError); errors.As(err, &damaged) && replaceDamaged {
		s.record, err = nil, nil
	}
	return s, err
}

// expects returns an error if the hash is none of those that the change expects.
func (c *Change) expects(hash string) error {
	if len(c.Expect) == 0 || slices.Contains(c.Expect, "*") || slices.Contains(c.Expect, hash) {
		return nil
	}
	return &ChangedError{hash}
}

// write adds the target to the history, after the file that it replaces if that is not in the history. It returns
// errStale if the history is not as the change found it.
func (s *situation) write(ctx context.Context, t *target, replaceDamaged bool) (*record, error) {
	var written *record
	stored, err := s.store.update(ctx, s.p.Name, replaceDamaged, func(r *record) ([][]byte, error) {
		if before, found := r.last(), s.record.last(); (before == nil) != (found == nil) ||
			before != nil && before.ID != found.ID {
			return nil, errStale
		}
		var modules [][]byte
		if running := s.p.module; running.from == FromFile {
			if last := r.last(); last == nil || last.Origin == OriginFile || last.Hash != running.hash || last.live() {
				r.addAfter(fileEntry(running), s.p.memory.Version)
			}
			modules = append(modules, running.wasm)
		}
		r.addAfter(t.entry, s.p.memory.Version)
		written = r
		return append(modules, t.version.wasm), nil
	})
	if !stored {
		return nil, err
	}
	return written, err
}

// fileEntry describes the file that a deployment replaces.
func fileEntry(v *version) *entry {
	e := &entry{ID: newID(), Hash: v.hash, Size: len(v.wasm), At: v.at, Origin: OriginFile}
	if v.manifest != nil {
		e.Module, e.ModuleVersion = v.manifest.Name, v.manifest.Version
	}
	return e
}

// HistoryEntry is a version of a plugin's deployment as GET /edgerelay/plugins/<name>/history shows it.
type HistoryEntry struct {
	// Version numbers the changes of a plugin.
	Version uint64 `json:"version"`
	// Hash identifies the module. Of an undeployment, it is the file of the node that made the change.
	Hash string `json:"hash"`
	Size int    `json:"size"`
	// Module and ModuleVersion are name and version in the module's manifest.
	Module        string    `json:"module,omitempty"`
	ModuleVersion string    `json:"module_version,omitempty"`
	At            time.Time `json:"at,omitzero"`
	By            string    `json:"by,omitempty"`
	Message       string    `json:"message,omitempty"`
	Origin        Origin    `json:"origin"`
	// Of is the version that a rollback repeats.
	Of uint64 `json:"of,omitempty"`
	// Forced tells that the samples were skipped.
	Forced bool `json:"forced,omitempty"`
	// Settings are the settings that travel with the module. The configuration is left out; HasConfig tells that there
	// is one.
	Settings  map[string]json.RawMessage `json:"settings,omitempty"`
	HasConfig bool                       `json:"has_config,omitempty"`
	// Current tells that this version applies. A node whose file has changed since runs the file.
	Current bool `json:"current,omitempty"`
	// Running tells that this node runs this version.
	Running bool `json:"running,omitempty"`
	// Available tells that a rollback can return to this version.
	Available bool `json:"available"`
}

// History returns the versions of a plugin's deployment, newest first.
func (h *Host) History(ctx context.Context, name string) ([]HistoryEntry, error) {
	p, store, ok := h.lookUp(name)
	if !ok {
		return nil, fmt.Errorf("%q: %w", name, ErrUnknownPlugin)
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	r, err := store.load(ctx, name)
	if err != nil {
		return nil, err
	}
	list := []HistoryEntry{}
	if r == nil {
		return list, nil
	}
	kept, err := store.kept(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: list the modules in the storage: %w", name, err)
	}
	for _, e := range slices.Backward(r.History) {
		out := HistoryEntry{
			Version: e.Version, Hash: e.Hash, Size: e.Size, Module: e.Module, ModuleVersion: e.ModuleVersion, At: e.At,
			By: e.By, Message: e.Message, Origin: e.Origin, Of: e.Of, Forced: e.Forced, Current: e == r.last(),
			Available: e.Undeployed || kept[e.Hash],
		}
		running := p.module.entry
		out.Running = running != nil && running.ID == e.ID
		out.Settings, out.HasConfig = visibleSettings(e.Settings)
		list = append(list, out)
	}
	return list, nil
}
