package pluginhost

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	// watchEvery is how often files are looked at. A file is read once it has stayed the same for that long.
	watchEvery = time.Second
	// pollEvery is how many looks at files there are to one look at the storage.
	pollEvery = 3
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
	tick := time.NewTicker(watchEvery)
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
			resampled := h.lookAtSamples(p, seen)
			h.lookAtFile(ctx, p, seen)
			if n%pollEvery == 0 {
				h.lookAtStore(ctx, p)
			}
			if resampled {
				h.holdToSamples(ctx, p)
			}
		}
		h.mu.Unlock()
	}
}

// lookAtSamples takes over golden samples that have changed and settled, and reports whether there are any. A newer
// module that was refused is tried on them at the next look.
func (h *Host) lookAtSamples(p *RunningPlugin, seen map[string]fileState) bool {
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
		h.refuse(p, refusal{"samples", fmt.Sprint(now), err}, "changed samples are refused; those before go on")
		return false
	}
	p.spec.Samples = samples
	h.Pipeline.SetSamples(p.Name, samples)
	if p.refused.from == "file" {
		p.file = fileState{}
	}
	h.show(func() { p.refused.what = "" })
	h.log.Info("a plugin's samples have changed", "plugin", p.Name, "count", len(samples))
	return true
}

// holdToSamples tries the running module on changed samples. It goes on whatever comes of that.
func (h *Host) holdToSamples(ctx context.Context, p *RunningPlugin) {
	switch err := h.Pipeline.CheckLive(ctx, p.Name); {
	case p.refused.err != nil && p.refused.from != "samples": // that is told already
	case err != nil:
		h.refuse(p, refusal{"samples", fmt.Sprint(p.sampled), err},
			"a running plugin fails its changed samples; it goes on")
	default:
		h.show(func() { p.refused = refusal{} })
	}
}

// lookAtFile takes over a file that has changed and settled.
func (h *Host) lookAtFile(ctx context.Context, p *RunningPlugin, seen map[string]fileState) {
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
		err = h.run(ctx, p, ModuleVersion{Wasm: wasm, From: "file", at: time.Now()})
	}
	if err != nil {
		h.refuse(p, refusal{"file", fmt.Sprint(now), err},
			"a changed plugin file is refused; the module before it goes on")
	}
}

// lookAtStore takes over what another node has deployed.
func (h *Host) lookAtStore(ctx context.Context, p *RunningPlugin) {
	d, err := h.store.Last(ctx, p.Name)
	if err != nil {
		h.refuse(p, refusal{"storage", err.Error(), err}, "the storage does not say whether a plugin has been deployed")
		return
	}
	if d == nil || !d.At.After(p.Version.at) {
		return
	}
	what := d.Hash + d.At.String()
	if p.refused.what == what {
		return
	}
	v, err := deployed(ctx, h.store, p.Name, d)
	if err == nil {
		err = h.run(ctx, p, v)
	}
	if err != nil {
		h.refuse(p, refusal{"deploy", what, err}, "a deployed plugin is refused on this node; the module before it goes on")
	}
}

// refuse notes that a version was not taken, and says so once.
func (h *Host) refuse(p *RunningPlugin, r refusal, message string) {
	if p.refused.what != r.what {
		h.log.Error(message, "plugin", p.Name, "error", r.err)
	}
	h.show(func() { p.refused = r })
}
