package plugins

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Health is a snapshot of one plugin. Counters run from the plugin's first appearance, across versions of its module.
type Health struct {
	Name   string    `json:"name"`
	Hash   string    `json:"hash"` // of the module's bytes, see Hash
	Size   int       `json:"size"` // of the module in bytes
	Hooks  string    `json:"hooks"`
	Groups []string  `json:"groups"`
	Shadow bool      `json:"shadow,omitempty"`
	Loaded time.Time `json:"loaded"`

	Calls      uint64          `json:"calls"` // of all hooks, failed ones included
	Passed     uint64          `json:"passed"`
	Dropped    uint64          `json:"dropped"`
	Replaced   uint64          `json:"replaced"`
	Emitted    uint64          `json:"emitted"`
	Subscribes uint64          `json:"subscribes"`
	Denied     uint64          `json:"denied"`
	Rendered   uint64          `json:"rendered"`
	Failures   map[Kind]uint64 `json:"failures"`
	OnError    OnError         `json:"on_error"`
	// Unprocessed counts the events that failed here, or found the plugin set aside, by what on_error made of them, see
	// Outcomes.
	Unprocessed map[string]uint64 `json:"unprocessed"`
	// Bypassed counts the calls that were not made because the plugin was set aside for their group.
	Bypassed uint64 `json:"bypassed"`
	Same     uint64 `json:"same,omitempty"`
	Differ   uint64 `json:"differ,omitempty"` // of a shadow: decisions unlike the original's
	Deploys  uint64 `json:"deploys"`

	Fuel        uint64 `json:"fuel"`          // units spent by all calls
	FuelLimit   int64  `json:"fuel_limit"`    // of one call …
	FuelPerByte int64  `json:"fuel_per_byte"` // … to which each byte of its input adds
	Instances   int    `json:"instances"`
	Memory      uint64 `json:"memory"` // bytes of linear memory of all instances
	KV          int    `json:"kv"`     // bytes in the key-value store

	// Breaker is "closed", or "open" if the plugin is set aside for any group, and "half-open" if it is tried again
	// wherever it is.
	Breaker string `json:"breaker"`
	// SetAside lists where it is, SetAsideMax at most; Aside counts all.
	SetAside    []SetAside        `json:"set_aside,omitempty"`
	Aside       int               `json:"aside"`
	LastError   string            `json:"last_error,omitempty"`
	LastErrorAt time.Time         `json:"last_error_at,omitzero"`
	Metrics     map[string]uint64 `json:"metrics,omitempty"` // the plugin's own counters
}

// SetAsideMax is how many groups [Health] names for which a plugin is set aside.
const SetAsideMax = 20

// Health returns a snapshot of every plugin, in the order of the pipeline.
func (p *Pipeline) Health() []Health {
	list := *p.order.Load()
	out := make([]Health, 0, len(list))
	for _, pl := range list {
		if h, ok := pl.health(); ok {
			out = append(out, h)
		}
	}
	return out
}

func (p *plugin) health() (Health, bool) {
	m, spec := p.live.Load(), p.spec.Load()
	if m == nil {
		return Health{}, false
	}
	t := m.total()
	if good := p.good.Load(); good != nil {
		g := good.total()
		t.add(&g)
	}
	p.mu.Lock()
	t.add(&p.past)
	p.mu.Unlock()
	h := Health{
		Name: p.name, Hash: m.hash, Size: len(m.spec.Wasm), Hooks: m.hooks.String(), Groups: spec.Groups, Shadow: spec.Shadow, Loaded: m.loaded,
		Calls: t.calls, Passed: t.verdicts[Pass], Dropped: t.verdicts[Drop], Replaced: t.verdicts[Replace], Emitted: t.emitted,
		Subscribes: t.subscribes, Denied: t.denies, Rendered: t.renders, Failures: map[Kind]uint64{},
		OnError: spec.OnError, Unprocessed: map[string]uint64{}, Bypassed: p.bypassed.Load(), Same: p.same.Load(), Differ: p.differ.Load(), Deploys: p.deploys.Load(),
		Fuel: t.fuel, FuelLimit: m.spec.Fuel, FuelPerByte: max(0, m.spec.FuelPerByte), Instances: len(m.slots), Memory: m.memory(), KV: p.env.kv.bytes(),
		Metrics: p.env.metrics.snapshot(),
	}
	for o, name := range Outcomes {
		if n := p.outcomes[o].Load(); n > 0 {
			h.Unprocessed[name] = n
		}
	}
	h.setAside(m)
	for i, k := range kinds {
		if n := t.failures[i]; n > 0 {
			h.Failures[k] = n
		}
	}
	if n := p.overflow.Load(); n > 0 {
		h.Failures[KindOutputs] = n
	}
	if t.last != nil {
		h.LastError, h.LastErrorAt = t.last.Error(), t.lastAt
	}
	return h, true
}

// setAside fills in where the plugin is set aside.
func (h *Health) setAside(m *module) {
	for i := range m.slots {
		h.SetAside = m.slots[i].breakers.open(h.SetAside)
	}
	slices.SortFunc(h.SetAside, func(a, b SetAside) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Hook, b.Hook))
	})
	h.Breaker = "closed"
	for _, s := range h.SetAside {
		if !s.Trying {
			h.Breaker = "open"
		} else if h.Breaker == "closed" {
			h.Breaker = "half-open"
		}
	}
	h.SetAside = slices.CompactFunc(h.SetAside, func(a, b SetAside) bool { return a.Group == b.Group && a.Hook == b.Hook })
	h.Aside = len(h.SetAside)
	h.SetAside = h.SetAside[:min(h.Aside, SetAsideMax)]
}

// Logs returns the last lines of a plugin, oldest first.
func (p *Pipeline) Logs(name string) ([]LogLine, error) {
	for _, pl := range *p.order.Load() {
		if pl.name == name {
			return pl.env.log.snapshot(), nil
		}
	}
	return nil, fmt.Errorf("there is no plugin %q: %w", name, os.ErrNotExist)
}
