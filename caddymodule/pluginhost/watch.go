package pluginhost

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	// watchInterval is the time between two looks at the files. A file is read once it has stayed the same for that long.
	watchInterval = time.Second
	// watchesPerStoragePoll is the number of looks at the files for each look at the storage.
	watchesPerStoragePoll = 3
)

// fileState tells one state of a file from another.
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

// watch picks up new modules until ctx ends.
func (h *Host) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	seen := map[string]fileState{} // at the last look
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

// reloadSamples takes over golden samples that have changed and settled, and reports whether there are any. A newer
// module that was refused is tried on them at the next look.
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
		h.reject(p, rejection{"samples", fmt.Sprint(now), err}, "changed samples are refused; those before go on")
		return false
	}
	p.spec.Samples = samples
	h.Pipeline.SetSamples(p.Name, samples)
	if p.rejected.from == "file" {
		p.file = fileState{}
	}
	h.publish(func() { p.rejected.version = "" })
	h.log.Info("a plugin's samples have changed", "plugin", p.Name, "count", len(samples))
	return true
}

// checkSamples tries the running module on changed samples. It goes on whatever comes of that.
func (h *Host) checkSamples(ctx context.Context, p *runningPlugin) {
	switch err := h.Pipeline.CheckLive(ctx, p.Name); {
	case p.rejected.err != nil && p.rejected.from != "samples": // that is told already
	case err != nil:
		h.reject(p, rejection{"samples", fmt.Sprint(p.sampled), err},
			"a running plugin fails its changed samples; it goes on")
	default:
		h.publish(func() { p.rejected = rejection{} })
	}
}

// reloadFile takes over a file that has changed and settled.
func (h *Host) reloadFile(ctx context.Context, p *runningPlugin, seen map[string]fileState) {
	now, err := stateOf(p.Plugin.path)
	if err != nil || now == p.file { // a file that is gone is about to be replaced
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
			"a changed plugin file is refused; the module before it goes on")
	}
}

// loadDeployment runs a module that another node has deployed.
func (h *Host) loadDeployment(ctx context.Context, p *runningPlugin) {
	d, err := h.store.lastDeployment(ctx, p.Name)
	if err != nil {
		h.reject(p, rejection{"storage", err.Error(), err}, "the storage does not say whether a plugin has been deployed")
		return
	}
	if d == nil || !d.At.After(p.module.at) {
		return
	}
	what := d.Hash + d.At.String()
	if p.rejected.version == what {
		return
	}
	v, err := deployed(ctx, h.store, p.Name, d)
	if err == nil {
		err = h.swapModule(ctx, p, v)
	}
	if err != nil {
		h.reject(p, rejection{"deploy", what, err}, "a deployed plugin is refused on this node; the module before it goes on")
	}
}

// reject records a rejected version and logs it once.
func (h *Host) reject(p *runningPlugin, r rejection, message string) {
	if p.rejected.version != r.version {
		h.log.Error(message, "plugin", p.Name, "error", r.err)
	}
	h.publish(func() { p.rejected = r })
}
