package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

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
	// promotes is the ID of the canary that the change promotes, empty for other changes.
	promotes string
}

// deploy returns the target of a deployed module.
func (s *situation) deploy(e *entry, m signedModule) (*target, error) {
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
	e.Hash, e.Size, e.Signatures = plugins.Hash(m.wasm), len(m.wasm), m.signatures
	v, err := newVersion(FromDeploy, m, time.Time{}, e, s.p.Plugin, own)
	if err != nil {
		return nil, err
	}
	if v.manifest != nil {
		e.Module, e.ModuleVersion = v.manifest.Name, v.manifest.Version
	}
	return &target{entry: e, version: v}, nil
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
	v, err := newVersion(FromFile, s.file.signedModule, s.file.state.changed, nil, s.p.Plugin, own)
	if err != nil {
		return nil, fmt.Errorf("the file would run, and it is rejected: %w", err)
	}
	if v.manifest != nil {
		e.Module, e.ModuleVersion = v.manifest.Name, v.manifest.Version
	}
	return &target{entry: e, version: v}, nil
}

// earlier returns the version that a rollback repeats, with its module. The version is nil if the module is a file that
// ran on this node before, without a history.
func (s *situation) earlier(ctx context.Context, to uint64) (*entry, signedModule, error) {
	none := signedModule{}
	if to == 0 {
		e, file := s.p.beforeNow(s.record)
		switch {
		case e == nil && file == nil:
			return nil, none, ErrNoPrevious
		case e == nil:
			return nil, file.signedModule(), nil
		case e.Undeployed:
			return e, none, nil
		}
		m, err := s.store.loadVersion(ctx, s.p.Name, e)
		return e, m, err
	}
	if s.record != nil {
		for _, e := range s.record.History {
			if e.Version != to {
				continue
			}
			if e.Undeployed {
				return e, none, nil
			}
			m, err := s.store.loadVersion(ctx, s.p.Name, e)
			return e, m, err
		}
	}
	return nil, none, fmt.Errorf("version %d: %w; see the history", to, ErrUnknownVersion)
}

// beforeNow returns the target of a rollback: a version, or the file that ran before, or neither.
func (p *runningPlugin) beforeNow(r *record) (*entry, *version) {
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

// current returns the hash of the module that runs, or that will run once this node has noticed another node's change.
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

// situationOf returns the basis of a change.
func (h *Host) situationOf(ctx context.Context, name string, replaceDamaged bool) (*situation, error) {
	p, store, ok := h.lookUp(name)
	if !ok {
		return nil, fmt.Errorf("%q: %w", name, ErrUnknownPlugin)
	}
	s := &situation{p: p, store: store, file: p.readFile()}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	var err error
	s.record, err = store.load(ctx, name)
	if damaged := new(damagedError); errors.As(err, &damaged) && replaceDamaged {
		s.record, err = nil, nil
	}
	return s, err
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
		if err := t.endCanary(r, time.Now()); err != nil {
			return nil, err
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
	e := &entry{ID: newID(), Hash: v.hash, Size: len(v.wasm), At: v.at, Origin: OriginFile, Signatures: v.signatures}
	if v.manifest != nil {
		e.Module, e.ModuleVersion = v.manifest.Name, v.manifest.Version
	}
	return e
}
