package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// localCanary is a canary on this node. Host.mu guards the map of them; the holder of the plugin's lock changes it.
type localCanary struct {
	id, attempt string
	share       float64
	// fault is why this node has taken the candidate back. It stays set until the storage knows.
	fault string
}

func (h *Host) canaryHere(name string) localCanary {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.canaries[name]
}

// canariesHere returns the canaries on this node.
func (h *Host) canariesHere() map[string]localCanary {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.canaries)
}

// setCanary remembers a plugin's canary, or forgets it if it has no id.
func (h *Host) setCanary(name string, c localCanary) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.id == "" {
		delete(h.canaries, name)
		return
	}
	h.canaries[name] = c
}

// restartCanary makes the next check start a plugin's candidate again, as after a change of its settings.
func (h *Host) restartCanary(name string) {
	if here := h.canaryHere(name); here.id != "" && here.fault == "" {
		here.attempt = ""
		h.setCanary(name, here)
	}
}

// minPromotedEvents is how many events a candidate must have decided on a node before that node promotes it.
const minPromotedEvents = 20

// followCanary makes this node run the canary of the plugin's record, judges the candidate, and promotes it when its
// time has come. The caller holds the plugin's lock.
func (h *Host) followCanary(ctx context.Context, store Store, p *runningPlugin) {
	want, here := p.record.canary(), h.canaryHere(p.Name)
	switch {
	case want == nil && here.id == "":
		return
	case want == nil:
		h.endCanaryHere(p, here)
		return
	case here.id == want.Candidate.ID && here.fault != "":
		h.reportFault(store, p, here)
		return
	}
	attempt := want.candidate().attempt(p.Plugin, p.samples, "")
	if here.id != want.Candidate.ID || here.attempt != attempt {
		h.startCanaryHere(ctx, store, p, want, attempt)
		return
	}
	if here.share != want.Share {
		if err := h.Pipeline.ResizeCanary(p.Name, here.id, want.Share); err == nil {
			here.share = want.Share
			h.setCanary(p.Name, here)
			h.log.Info("plugin canary resized", "plugin", p.Name, "share", want.Share)
		}
	}
	report, ok := h.Pipeline.JudgeCanary(p.Name)
	switch {
	case !ok || report.ID != here.id: // the plugin was removed meanwhile, or cannot have a canary any more
		h.setCanary(p.Name, localCanary{})
	case report.Fault != "":
		h.failCanary(store, p, here, report.Fault)
	case want.For > 0 && time.Since(want.Since) >= want.For && report.Candidate.Events >= minPromotedEvents:
		h.promoteClean(ctx, p.Name, want)
	}
}

// startCanaryHere runs the candidate on this node. A node that refuses it takes it back for all, as a node does on
// which it fails.
func (h *Host) startCanaryHere(ctx context.Context, store Store, p *runningPlugin, want *canaryRecord, attempt string) {
	here := localCanary{id: want.Candidate.ID, attempt: attempt, share: want.Share}
	v, err := want.candidate().open(ctx, store, p.Plugin, fileContent{})
	if err != nil {
		if errors.Is(err, artifact.ErrSignature) { // the keys have changed, or are others here
			h.failCanary(store, p, here, "rejected: "+err.Error())
			return
		}
		h.reject(p, rejection{"canary", attempt, err}, rejectionMessages["canary"])
		return
	}
	prepared, err := h.Pipeline.PrepareCanary(ctx, v.spec(p.samples), want.trial())
	if err == nil {
		defer prepared.Close()
		err = h.Pipeline.StartCanary(prepared)
	}
	switch {
	case ctx.Err() != nil, errors.Is(err, plugins.ErrOutdated), errors.Is(err, plugins.ErrClosed):
		return // the next check starts it
	case err != nil:
		h.failCanary(store, p, here, "rejected: "+err.Error())
		return
	}
	h.setCanary(p.Name, here)
	h.change(p.Plugin, func(p *runningPlugin) {
		if p.rejected.from == "canary" {
			p.rejected = rejection{}
		}
	})
	h.log.Info("plugin canary started", "plugin", p.Name, "hash", want.Candidate.Hash, "share", want.Share)
}

// endCanaryHere makes the stable module decide for all groups.
func (h *Host) endCanaryHere(p *runningPlugin, here localCanary) {
	_ = h.Pipeline.EndCanary(p.Name, here.id) // an error means that it has ended
	h.setCanary(p.Name, localCanary{})
	phase, reason := CanaryReplaced, ""
	if p.record != nil && p.record.Canary != nil {
		phase, reason = p.record.Canary.Phase, p.record.Canary.Reason
	}
	h.log.Info("plugin canary ended", "plugin", p.Name, "phase", string(phase), "reason", reason)
}

// failCanary takes the candidate back: first on this node, which must not wait for the storage, and then for all.
func (h *Host) failCanary(store Store, p *runningPlugin, here localCanary, fault string) {
	_ = h.Pipeline.EndCanary(p.Name, here.id) // an error means that it has ended
	here.fault = fault
	h.setCanary(p.Name, here)
	h.countsMu.Lock()
	h.takenBack[p.Name]++
	h.countsMu.Unlock()
	h.log.Error("plugin canary taken back", "plugin", p.Name, "hash", p.record.Canary.Candidate.Hash, "reason", fault)
	h.reportFault(store, p, here)
}

// CanariesTakenBack returns how many canaries of a plugin this node has taken back for a fault.
func (h *Host) CanariesTakenBack(name string) uint64 {
	h.countsMu.Lock()
	defer h.countsMu.Unlock()
	return h.takenBack[name]
}

// reportFault records that the candidate was taken back. After an error, the next check tries again.
func (h *Host) reportFault(store Store, p *runningPlugin, here localCanary) {
	change := canaryChange{event: canaryTakenBack, at: time.Now(), by: "edgerelay", why: here.fault, onNode: h.self.node}
	written, err := h.writeCanary(store, p.Name, func(r *record) ([][]byte, error) {
		return nil, r.changeCanary(here.id, change)
	})
	switch {
	case errors.Is(err, ErrNoCanary): // another node, or an operator, was faster
	case err != nil:
		h.reject(p, rejection{"canary", here.fault, err}, "plugin canary's end not recorded")
		return
	default:
		h.change(p.Plugin, func(p *runningPlugin) { p.record = written })
		p.record = written
	}
	h.setCanary(p.Name, localCanary{})
}

// promoteClean promotes a candidate without faults. After an error, the next check tries again.
func (h *Host) promoteClean(ctx context.Context, name string, want *canaryRecord) {
	c := Change{By: "edgerelay", Message: fmt.Sprintf("without faults for %v", want.For)}
	err := h.tryChange(ctx, name, c, false, func(s *situation) (*target, error) {
		return s.promote(ctx, want.Candidate.ID)
	})
	if err != nil && !errors.Is(err, errStale) && !errors.Is(err, ErrNoCanary) && ctx.Err() == nil {
		h.log.Warn("plugin canary not promoted", "plugin", name, "error", err)
	}
}
