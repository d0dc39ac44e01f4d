package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// Errors of [Host.Deploy], [Host.Rollback] and [Host.Undeploy].
var (
	ErrUnknownPlugin  = errors.New("plugin not configured")
	ErrUnknownVersion = errors.New("version not in the history")
	ErrNoPrevious     = errors.New("no previous module to roll back to; deploy the module that should run")
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
	// By is the author of the change, and Message the reason.
	By, Message string
	// Expect are hashes of modules, "*" for any. Unless it is empty, the change is made only if one of them runs.
	Expect []string
	// Candidate is the hash of the canary's candidate that the caller has seen, or [NoCandidate]. Unless it is empty, a
	// change of another canary, or without one, is not made: a rollback must not hit the module behind a canary that has
	// ended in the meantime.
	Candidate string
	// Settings, of a deployment, override the settings of each node's plugin.
	Settings []byte
	// Signatures, of a deployment, are those of the module, as in a file .sig.
	Signatures []byte
	// Ref, of a deployment, is the reference in a registry that the module came from, for the history.
	Ref string
	// To, of a rollback, is the version to return to; 0: the one before.
	To uint64
	// Force, of a rollback, skips the samples, and only the samples.
	Force bool
}

const (
	maxBy      = 128  // bytes
	maxMessage = 1024 // bytes
	maxRef     = 512  // bytes
	maxTries   = 5    // of a change, when other nodes change the plugin at the same time
)

// NoCandidate is the [Change.Candidate] of a caller that has seen no running canary.
const NoCandidate = "none"

// check checks the texts, which lists and terminals show.
func (c *Change) check() error {
	for _, t := range []struct {
		name, text string
		limit      int
	}{{"by", c.By, maxBy}, {"message", c.Message, maxMessage}, {"ref", c.Ref, maxRef}} {
		if len(t.text) > t.limit || strings.ContainsFunc(t.text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("%w: %s must be a line of at most %d printable bytes", ErrInvalidChange, t.name, t.limit)
		}
	}
	return nil
}

// signatures returns the signatures of a deployment.
func (c *Change) signatures() ([]artifact.Signature, error) {
	if len(c.Signatures) == 0 {
		return nil, nil
	}
	list, err := artifact.ParseSignatures(c.Signatures)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidChange, err)
	}
	return list, nil
}

// Deploy makes wasm the module of a plugin on every node that shares the storage. A rejected module changes nothing.
func (h *Host) Deploy(ctx context.Context, name string, wasm []byte, c Change) error {
	settings, err := parseSettings(c.Settings)
	if err != nil {
		return err
	}
	m := signedModule{wasm: wasm}
	if m.signatures, err = c.signatures(); err != nil {
		return err
	}
	return h.changeModule(ctx, name, c, true, func(s *situation) (*target, error) {
		return s.deploy(&entry{Origin: OriginDeploy, Settings: settings, Ref: c.Ref}, m)
	})
}

// Rollback takes a running canary back, or deploys an earlier version again. An earlier undeployment lets the files
// run.
// See docs/decisions/plugins.md#why-does-a-rollback-deploy-the-previous-module
func (h *Host) Rollback(ctx context.Context, name string, c Change) error {
	if c.To == 0 && c.Candidate != NoCandidate {
		if err := h.takeBack(ctx, name, c); !errors.Is(err, ErrNoCanary) {
			return err
		}
	}
	return h.changeModule(ctx, name, c, false, func(s *situation) (*target, error) {
		of, m, err := s.earlier(ctx, c.To)
		if err != nil {
			return nil, err
		}
		if of != nil && of.Undeployed {
			return s.undeploy(&entry{Origin: OriginRollback, Of: of.Version})
		}
		e := &entry{Origin: OriginRollback, Forced: c.Force}
		if of != nil {
			e.Of, e.Settings, e.Ref = of.Version, of.Settings, of.Ref
		}
		return s.deploy(e, m)
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

// changeModule makes a change: it prepares the target without a lock, adds the target to the history under the
// storage's lock, and installs it. If another node was faster, the change starts again from that node's result.
func (h *Host) changeModule(
	ctx context.Context, name string, c Change, replaceDamaged bool, choose func(*situation) (*target, error),
) error {
	return h.repeat(ctx, name, c, func() error { return h.tryChange(ctx, name, c, replaceDamaged, choose) })
}

func (h *Host) tryChange(
	ctx context.Context, name string, c Change, replaceDamaged bool, choose func(*situation) (*target, error),
) error {
	s, err := h.situationOf(ctx, name, replaceDamaged)
	if err != nil {
		return err
	}
	if err := errors.Join(c.expects(s.current()), c.expectsCandidate(s.record.canary())); err != nil {
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
	h.align()
	s.p.record = r
	h.followCanary(ctx, s.store, &s.p)
	return nil
}

// expects returns an error if the hash is none of those that the change expects.
func (c *Change) expects(hash string) error {
	if len(c.Expect) == 0 || slices.Contains(c.Expect, "*") || slices.Contains(c.Expect, hash) {
		return nil
	}
	return &ChangedError{hash}
}

// expectsCandidate returns an error if the running canary, nil for none, is not the one that the change expects.
func (c *Change) expectsCandidate(running *canaryRecord) error {
	hash := NoCandidate
	if running != nil {
		hash = running.Candidate.Hash
	}
	if c.Candidate == "" || c.Candidate == hash {
		return nil
	}
	return fmt.Errorf("%w: the candidate is %s; look at the change and repeat yours", ErrOtherCanary, hash)
}
