package pluginhost

import "fmt"

// divergence tells how a node runs something else than the record of the plugin says; empty if it does not. here is the
// canary on this node.
func (p *runningPlugin) divergence(here localCanary) string {
	last, v := p.record.last(), p.module
	switch {
	case last.live() && v.from == FromFile && v.hash != last.Hash:
		return fmt.Sprintf("the file %.12s runs instead of version %d, %.12s", v.hash, last.Version, last.Hash)
	case last.live() && v.from == FromDeploy && v.entry.ID != last.ID && !v.entry.sameContent(last):
		return fmt.Sprintf("version %d, %.12s, runs instead of version %d, %.12s",
			v.entry.Version, v.hash, last.Version, last.Hash)
	case last != nil && last.Undeployed && v.from == FromDeploy:
		return fmt.Sprintf("version %d, %.12s, runs although it was undeployed", v.entry.Version, v.hash)
	}
	want := p.record.canary()
	runs := here.id != "" && here.fault == ""
	switch {
	case want != nil && (!runs || here.id != want.Candidate.ID):
		return fmt.Sprintf("the canary of %.12s does not run", want.Candidate.Hash)
	case want != nil && here.share != want.Share:
		return fmt.Sprintf("the canary of %.12s decides for %g of the groups instead of %g", want.Candidate.Hash,
			here.share, want.Share)
	case want == nil && runs:
		return "a canary runs that has ended"
	}
	return ""
}

// Diverged returns how plugins run something else here than their records in the storage say, by plugin.
func (h *Host) Diverged() map[string]string {
	here := h.canariesHere()
	h.publishedMu.Lock()
	defer h.publishedMu.Unlock()
	diverged := map[string]string{}
	for _, p := range h.running {
		if how := p.divergence(here[p.Name]); how != "" {
			diverged[p.Name] = how
		}
	}
	return diverged
}
