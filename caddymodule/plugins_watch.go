package caddymodule

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
func (h *pluginHost) watch(ctx context.Context) {
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
			h.lookAtFile(ctx, p, seen)
			if n%pollEvery == 0 {
				h.lookAtStore(ctx, p)
			}
		}
		h.mu.Unlock()
	}
}

// lookAtFile takes over a file that has changed and settled.
func (h *pluginHost) lookAtFile(ctx context.Context, p *runningPlugin, seen map[string]fileState) {
	now, err := stateOf(p.Plugin.file)
	if err != nil || now == p.file { // a file that is gone is about to be replaced
		return
	}
	if seen[p.Plugin.file] != now {
		seen[p.Plugin.file] = now
		return
	}
	p.file = now
	wasm, err := os.ReadFile(p.Plugin.file)
	if err == nil {
		err = h.run(ctx, p, moduleVersion{wasm: wasm, from: "file", at: time.Now()})
	}
	if err != nil {
		h.refuse(p, fmt.Sprint(now), "a changed plugin file is refused; the module before it goes on", err)
	}
}

// lookAtStore takes over what another node has deployed.
func (h *pluginHost) lookAtStore(ctx context.Context, p *runningPlugin) {
	d, err := h.store.last(ctx, p.Name)
	if err != nil {
		h.refuse(p, err.Error(), "the storage does not say whether a plugin has been deployed", err)
		return
	}
	if d == nil || !d.At.After(p.version.at) {
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
		h.refuse(p, what, "a deployed plugin is refused on this node; the module before it goes on", err)
	}
}

// refuse notes that a version was not taken, once.
func (h *pluginHost) refuse(p *runningPlugin, what, message string, err error) {
	if p.refused.what != what {
		h.log.Error(message, "plugin", p.Name, "error", err)
	}
	h.show(func() { p.refused = refusal{what, err} })
}
