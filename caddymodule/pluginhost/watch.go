package pluginhost

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	// watchInterval is the time between two checks of the files. A changed file is read after an interval without
	// further changes.
	watchInterval = time.Second
	// watchesPerStoragePoll is the number of checks of the files for each check of the storage.
	watchesPerStoragePoll = 3
)

// fileState distinguishes versions of a file.
type fileState struct {
	changed time.Time
	size    int64
}

func stateOf(name string) (fileState, error) {
	info, err := os.Stat(name)
	if err != nil {
		return fileState{}, err
	}
	return fileState{info.ModTime(), info.Size()}, nil
}

// watch applies new modules and samples until ctx ends.
func (h *Host) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	seen := map[string]fileState{} // at the last check
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.mu.Lock()
		for _, p := range h.running {
			resampled := h.reloadSamples(p, seen)
			h.reloadFile(ctx, p, seen)
			if n%watchesPerStoragePoll == 0 {
				h.loadDeployment(ctx, p)
			}
			if resampled {
				h.checkSamples(ctx, p)
			}
		}
		h.mu.Unlock()
	}
}

// reloadSamples applies changed golden samples once the file is stable, and reports whether the samples changed. The
// next check of the module then tries a rejected version again.
func (h *Host) reloadSamples(p *runningPlugin, seen map[string]fileState) bool {
	if p.samples == "" {
		return false
	}
	now, err := stateOf(p.samples)
	if err != nil || now == p.sampled {
		return false
	}
	if seen[p.samples] != now {
		seen[p.samples] = now
		return false
	}
	p.sampled = now
	samples, err := readSamples(p.samples)
	if err != nil {
		h.reject(p, rejection{"samples", fmt.Sprint(now), err}, "changed plugin samples rejected")
		return false
	}
	p.spec.Samples = samples
	h.Pipeline.SetSamples(p.Name, samples)
	if p.rejected.from == "file" {
		p.file = fileState{}
	}
	h.publish(func() { p.rejected.version = "" })
	h.log.Info("plugin samples reloaded", "plugin", p.Name, "count", len(samples))
	return true
}

// checkSamples checks the running module against changed samples. A module that fails stays in operation.
func (h *Host) checkSamples(ctx context.Context, p *runningPlugin) {
	switch err := h.Pipeline.CheckLive(ctx, p.Name); {
	case p.rejected.err != nil && p.rejected.from != "samples": // already reported
	case err != nil:
		h.reject(p, rejection{"samples", fmt.Sprint(p.sampled), err},
			"running plugin fails changed samples")
	default:
		h.publish(func() { p.rejected = rejection{} })
	}
}

// reloadFile applies a changed file once the file is stable.
func (h *Host) reloadFile(ctx context.Context, p *runningPlugin, seen map[string]fileState) {
	now, err := stateOf(p.Plugin.path)
	if err != nil || now == p.file { // a missing file is about to be replaced
		return
	}
	if seen[p.Plugin.path] != now {
		seen[p.Plugin.path] = now
		return
	}
	p.file = now
	wasm, err := os.ReadFile(p.Plugin.path)
	if err == nil {
		err = h.swapModule(ctx, p, moduleVersion{wasm: wasm, from: "file", at: time.Now()})
	}
	if err != nil {
		h.reject(p, rejection{"file", fmt.Sprint(now), err},
			"changed plugin file rejected")
	}
}

// loadDeployment runs a module that another node has deployed.
func (h *Host) loadDeployment(ctx context.Context, p *runningPlugin) {
	d, err := h.store.lastDeployment(ctx, p.Name)
	if err != nil {
		h.reject(p, rejection{"storage", err.Error(), err}, "plugin deployment unreadable")
		return
	}
	if d == nil || !d.At.After(p.module.at) {
		return
	}
	version := d.Hash + d.At.String()
	if p.rejected.version == version {
		return
	}
	v, err := deployed(ctx, h.store, p.Name, d)
	if err == nil {
		err = h.swapModule(ctx, p, v)
	}
	if err != nil {
		h.reject(p, rejection{"deploy", version, err}, "deployed plugin rejected on this node")
	}
}

// reject records a rejected version, and logs the first rejection of each version.
func (h *Host) reject(p *runningPlugin, r rejection, message string) {
	if p.rejected.version != r.version {
		h.log.Error(message, "plugin", p.Name, "error", r.err)
	}
	h.publish(func() { p.rejected = r })
}
