package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// DeployCanary tries wasm as the module of a plugin, on every node that shares the storage: the candidate decides for a
// share of the groups until [Host.Promote] or [Host.Rollback], or until the nodes judge it. A rejected module changes
// nothing.
func (h *Host) DeployCanary(ctx context.Context, name string, wasm []byte, c Change, settings CanarySettings) error {
	own, err := parseSettings(c.Settings)
	if err == nil {
		err = settings.check()
	}
	m := signedModule{wasm: wasm}
	if err == nil {
		m.signatures, err = c.signatures()
	}
	if err != nil {
		return err
	}
	return h.repeat(ctx, name, c, func() error {
		e := &entry{
			ID: newID(), Hash: plugins.Hash(wasm), Size: len(wasm), Origin: OriginDeploy, Settings: own, At: time.Now(),
			By: c.By, Message: c.Message, Ref: c.Ref,
		}
		return h.tryCanary(ctx, name, m, c, &canaryRecord{
			Candidate: e, Share: settings.Share, Since: e.At, For: settings.For, MaxErrors: settings.MaxErrors,
			MaxSlowdown: settings.MaxSlowdown, MaxDiffer: settings.MaxDiffer, Phase: CanaryRunning,
		})
	})
}

func (h *Host) tryCanary(ctx context.Context, name string, m signedModule, c Change, canary *canaryRecord) error {
	s, err := h.situationOf(ctx, name, false)
	if err != nil {
		return err
	}
	if err := c.expects(s.current()); err != nil {
		return err
	}
	if s.record.canary() != nil {
		return fmt.Errorf("plugin %s: %w", name, ErrCanaryRuns)
	}
	e := canary.Candidate
	if v := s.p.module; v.hash == e.Hash && string(v.settings()) == string(e.Settings) {
		return fmt.Errorf("plugin %s: %w", name, ErrRunsAlready)
	}
	t, err := s.deploy(e, m)
	if err != nil {
		return err
	}
	e.Files = nil
	prepared, err := h.Pipeline.PrepareCanary(ctx, t.version.spec(s.p.samples), canary.trial())
	if err != nil {
		return err
	}
	defer prepared.Close()
	written, err := h.writeCanary(s.store, name, func(r *record) ([][]byte, error) {
		if r.canary() != nil {
			return nil, errStale
		}
		r.Canary = canary
		return [][]byte{m.wasm}, nil
	})
	if err != nil {
		return err
	}
	h.change(s.p.Plugin, func(p *runningPlugin) { p.record = written })
	// The watcher follows the record, so that an error here only delays the start.
	if err := h.Pipeline.StartCanary(prepared); err == nil {
		attempt := canary.candidate().attempt(s.p.Plugin, s.p.samples, "")
		h.setCanary(name, localCanary{id: e.ID, attempt: attempt, share: canary.Share})
	}
	h.log.Info("plugin canary started", "plugin", name, "hash", e.Hash, "share", canary.Share)
	return nil
}

// settings returns the settings that travel with a version.
func (v *version) settings() []byte {
	if v.entry == nil {
		return nil
	}
	return v.entry.Settings
}

// candidate returns the candidate's version as one that may run.
func (c *canaryRecord) candidate() candidate { return candidate{from: FromDeploy, entry: c.Candidate} }

// writeCanary changes a plugin's record, and returns the new one. The change is made even if the client goes away.
func (h *Host) writeCanary(
	store Store, name string, change func(r *record) (modules [][]byte, err error),
) (written *record, err error) {
	stored, err := store.update(context.Background(), name, false, func(r *record) ([][]byte, error) {
		written = r
		return change(r)
	})
	if !stored {
		return nil, err
	}
	if err != nil {
		h.log.Warn("plugin deployment lock not released", "plugin", name, "error", err)
	}
	return written, nil
}

// ResizeCanary gives the running canary another share of the groups.
func (h *Host) ResizeCanary(ctx context.Context, name string, share float64, c Change) error {
	settings := CanarySettings{Share: share}
	if err := settings.check(); err != nil {
		return err
	}
	return h.alterCanary(ctx, name, c, canaryChange{event: canaryResized, share: share})
}

// takeBack ends the running canary.
func (h *Host) takeBack(ctx context.Context, name string, c Change) error {
	why := c.Message
	if why == "" {
		why = "rolled back"
	}
	return h.alterCanary(ctx, name, c, canaryChange{event: canaryTakenBack, at: time.Now(), by: c.By, why: why})
}

// alterCanary changes the running canary, and follows it on this node.
func (h *Host) alterCanary(ctx context.Context, name string, c Change, change canaryChange) error {
	return h.repeat(ctx, name, c, func() error {
		s, err := h.situationOf(ctx, name, false)
		if err != nil {
			return err
		}
		running := s.record.canary()
		if err := errors.Join(c.expects(s.current()), c.expectsCandidate(running)); err != nil {
			return err
		}
		if running == nil {
			return fmt.Errorf("plugin %s: %w", name, ErrNoCanary)
		}
		written, err := h.writeCanary(s.store, name, func(r *record) ([][]byte, error) {
			return nil, r.changeCanary(running.Candidate.ID, change)
		})
		if err != nil {
			return err
		}
		h.change(s.p.Plugin, func(p *runningPlugin) { p.record = written })
		s.p.record = written
		h.followCanary(ctx, s.store, &s.p)
		return nil
	})
}

// Promote makes the candidate of the running canary the plugin's module.
func (h *Host) Promote(ctx context.Context, name string, c Change) error {
	return h.changeModule(ctx, name, c, false, func(s *situation) (*target, error) { return s.promote(ctx, "") })
}

// promote returns the target of a promotion of the running canary, or of the one with an ID.
func (s *situation) promote(ctx context.Context, id string) (*target, error) {
	running := s.record.canary()
	if running == nil || id != "" && running.Candidate.ID != id {
		return nil, fmt.Errorf("plugin %s: %w", s.p.Name, ErrNoCanary)
	}
	of := running.Candidate
	m, err := s.store.loadVersion(ctx, s.p.Name, of)
	if err != nil {
		return nil, err
	}
	t, err := s.deploy(&entry{Origin: OriginDeploy, Settings: of.Settings, Ref: of.Ref}, m)
	if err != nil {
		return nil, err
	}
	t.promotes = of.ID
	return t, nil
}

// endCanary tells the record's canary that another version of the plugin is deployed.
func (t *target) endCanary(r *record, now time.Time) error {
	running := r.canary()
	change := canaryChange{event: canaryOverridden, at: now, by: t.entry.By, why: "another version was deployed"}
	switch {
	case t.promotes != "":
		if running == nil || running.Candidate.ID != t.promotes {
			return errStale
		}
		change.event, change.why = canaryAccepted, t.entry.Message
	case running == nil:
		return nil
	case t.entry.Origin == OriginRollback:
		change.why = "rolled back"
	case t.entry.Origin == OriginUndeploy:
		change.why = "undeployed"
	}
	return r.changeCanary(running.Candidate.ID, change)
}

// repeat makes a change of a plugin while no other change is made on this node, and again if another node was faster.
func (h *Host) repeat(ctx context.Context, name string, c Change, change func() error) error {
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
		if err := change(); !errors.Is(err, errStale) {
			h.countRefusal(name, err)
			return err
		}
	}
	return fmt.Errorf("plugin %s: %w", name, ErrBusy)
}
