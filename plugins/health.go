package plugins

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Health is a snapshot of one plugin. Counters start with the plugin's first appearance and continue across versions
// of its module.
type Health struct {
	Name   string    `json:"name"`
	Hash   string    `json:"hash"` // of the module's bytes; see the function Hash
	Size   int       `json:"size"` // of the module, in bytes
	Hooks  string    `json:"hooks"`
	Groups []string  `json:"groups"`
	Shadow bool      `json:"shadow,omitempty"`
	Loaded time.Time `json:"loaded"`
	// Engine tells whether the module runs as machine code or is interpreted, 20 to 100 times slower.
	Engine Engine `json:"engine"`

	Calls      uint64 `json:"calls"` // of all hooks, including failed calls
	Passed     uint64 `json:"passed"`
	Dropped    uint64 `json:"dropped"`
	Replaced   uint64 `json:"replaced"`
	Emitted    uint64 `json:"emitted"`
	Subscribes uint64 `json:"subscribes"`
	Denied     uint64 `json:"denied"`
	Rendered   uint64 `json:"rendered"`
	// Replayed counts the events of the history that the plugin processed for clients that resume, and ReplayFailures
	// those on which it failed. Passed, Dropped, Replaced and Emitted do not count them; Calls and Failures do.
	Replayed       uint64          `json:"replayed"`
	ReplayFailures uint64          `json:"replay_failures"`
	Failures       map[Kind]uint64 `json:"failures"`
	// RecentCalls and RecentFailures count about the last minute, at most two; both are 0 without a failure in the
	// last minute.
	RecentCalls    uint64  `json:"recent_calls,omitempty"`
	RecentFailures uint64  `json:"recent_failures,omitempty"`
	OnError        OnError `json:"on_error"`
	// Unprocessed counts the events that the plugin could not process, by outcome, see Outcomes.
	Unprocessed map[string]uint64 `json:"unprocessed"`
	// CallsSkipped counts the calls that were not made because a circuit breaker was open.
	CallsSkipped uint64 `json:"calls_skipped"`
	// CallsBusy counts the calls for clients of a function that were not made because too many calls waited.
	CallsBusy uint64 `json:"calls_busy,omitempty"`
	// Ticks counts the successful calls of on_tick. TicksSkipped counts those that were not made because a tick was
	// late: the next one stands for them. Tick is the interval, empty for a plugin without on_tick.
	Ticks        uint64 `json:"ticks,omitempty"`
	TicksSkipped uint64 `json:"ticks_skipped,omitempty"`
	Tick         string `json:"tick,omitempty"`
	// Same and Differ count a shadow's decisions, by comparison with the original's. A failed call differs.
	Same   uint64 `json:"same,omitempty"`
	Differ uint64 `json:"differ,omitempty"`
	// ShadowSkipped counts the events that a shadow did not see because it was too slow or its circuit breaker was open.
	ShadowSkipped uint64 `json:"shadow_skipped,omitempty"`
	Deploys       uint64 `json:"deploys"`
	// Canary is the state of the plugin's canary on this node, if there is one.
	Canary *CanaryReport `json:"canary,omitempty"`

	// CallSeconds has the durations of the calls, by hook. Most short calls are not timed, and count as long as the last
	// timed call.
	CallSeconds map[string]Histogram `json:"call_seconds"`

	Fuel uint64 `json:"fuel"` // units spent by all calls
	// FuelLimit is the budget of a call in units; each byte of the call's input adds FuelPerByte.
	FuelLimit   int64  `json:"fuel_limit"`
	FuelPerByte int64  `json:"fuel_per_byte"`
	Instances   int    `json:"instances"`
	Memory      uint64 `json:"memory"` // bytes of linear memory of all instances, with a canary's and the spare ones
	KV          int    `json:"kv"`     // bytes in the key-value store

	// Breaker is "closed", "open" if a circuit breaker suspends calls, or "half-open" if each open one waits for its
	// trial call.
	Breaker string `json:"breaker"`
	// OpenBreakers lists the open circuit breakers, at most MaxOpenBreakersListed; OpenBreakerCount counts all.
	OpenBreakers     []OpenBreaker     `json:"open_breakers,omitempty"`
	OpenBreakerCount int               `json:"open_breaker_count"`
	LastError        string            `json:"last_error,omitempty"`
	LastErrorAt      time.Time         `json:"last_error_at,omitzero"`
	Metrics          map[string]uint64 `json:"metrics,omitempty"` // the plugin's own counters
}

// Histogram is a distribution of durations.
type Histogram struct {
	Count   uint64  `json:"count"`
	Seconds float64 `json:"seconds"` // sum of all durations
	// Buckets counts the calls that lasted at most as long as the value of DurationBounds at the same position. Each
	// call counts in all buckets from its own on.
	Buckets []uint64 `json:"buckets"`
}

// MaxOpenBreakersListed bounds the length of [Health].OpenBreakers.
const MaxOpenBreakersListed = 20

// Health returns a snapshot of every plugin, in the order of the pipeline. It does not wait for calls in flight; the
// counts of such a call's instance may then lag behind by the short calls before.
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

// health returns a snapshot, or false if the plugin has left the pipeline.
func (p *plugin) health() (Health, bool) {
	d, spec := p.deployment.Load(), p.spec.Load()
	m := d.live
	if m == nil {
		return Health{}, false
	}
	h := Health{
		Name: p.name, Hash: m.hash, Size: len(m.spec.Wasm), Hooks: m.hooks.String(),
		Groups: spec.Groups, Shadow: spec.Shadow, Loaded: m.loaded, Engine: CurrentEngine(), OnError: spec.OnError,
		CallsSkipped: p.skipped.Load(), CallsBusy: p.busy.Load(), Same: p.shadow.same.Load(), Differ: p.shadow.differ.Load(),
		ShadowSkipped: p.shadow.skipped.Load(),
		Deploys:       d.replaced, FuelLimit: m.spec.Fuel, FuelPerByte: max(0, m.spec.FuelPerByte),
		Instances: len(m.slots), KV: p.env.kv.bytes(), Metrics: p.env.metrics.snapshot(),
		Memory: uint64(p.env.memory.Load()),
	}
	if c := d.canary; c != nil && c.trial.beside != nil {
		h.Memory += uint64(c.trial.beside.env.memory.Load())
	}
	h.setCounts(p.total(), m.hooks)
	if m.hooks&OnTick != 0 {
		h.Tick, h.TicksSkipped = m.spec.Tick.String(), p.ticksSkipped.Load()
	}
	h.RecentCalls, h.RecentFailures = m.failureRate(ticks(p.env.now()))
	if n := p.excess.Load(); n > 0 {
		h.Failures[KindOutputs] = n
	}
	h.Unprocessed = map[string]uint64{}
	for o, name := range Outcomes {
		if n := p.outcomes[o].Load(); n > 0 {
			h.Unprocessed[name] = n
		}
	}
	h.setBreakers(m, d.canary.candidate())
	if c, ok := p.canaryReport(false); ok {
		h.Canary = &c
	}
	return h, true
}

func (h *Health) setCounts(t tally, hooks Hook) {
	h.Calls, h.Fuel = t.calls, t.fuel
	h.Passed, h.Dropped, h.Replaced = t.verdicts[Pass], t.verdicts[Drop], t.verdicts[Replace]
	h.Emitted, h.Subscribes, h.Denied, h.Rendered = t.emitted, t.subscribes, t.denies, t.renders
	h.Ticks = t.ticks
	h.Replayed, h.ReplayFailures = t.replayed, t.replayFailures
	h.Failures = map[Kind]uint64{}
	for i, k := range kinds {
		if n := t.failures[i]; n > 0 {
			h.Failures[k] = n
		}
	}
	h.CallSeconds = map[string]Histogram{}
	for i := range t.durations {
		hook := Hook(1 << i)
		if timed := t.durations[i].histogram(); timed.Count > 0 || hooks&hook != 0 {
			h.CallSeconds[hook.String()] = timed
		}
	}
	if t.last != nil {
		h.LastError, h.LastErrorAt = t.last.Error(), t.lastAt
	}
}

// histogram returns the durations in the form for readers.
func (d *durations) histogram() Histogram {
	h := Histogram{Seconds: d.sum.Seconds(), Buckets: make([]uint64, len(DurationBounds))}
	for i, n := range d.buckets {
		h.Count += n
		if i < len(h.Buckets) {
			h.Buckets[i] = h.Count
		}
	}
	return h
}

func (h *Health) setBreakers(modules ...*module) {
	var open []OpenBreaker
	for _, m := range modules {
		if m == nil {
			continue
		}
		for i := range m.slots {
			open = m.slots[i].breakers.appendOpen(open)
		}
		open = m.connects.appendOpen(open)
	}
	slices.SortFunc(open, func(a, b OpenBreaker) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Hook, b.Hook), compareBools(a.Replay, b.Replay))
	})
	h.Breaker = "closed"
	for _, b := range open {
		if !b.HalfOpen {
			h.Breaker = "open"
		} else if h.Breaker == "closed" {
			h.Breaker = "half-open"
		}
	}
	// Classes and users have breakers of their own, which Health does not tell apart.
	open = slices.CompactFunc(open, func(a, b OpenBreaker) bool { return a.Group == b.Group && a.Hook == b.Hook && a.Replay == b.Replay })
	h.OpenBreakerCount = len(open)
	h.OpenBreakers = open[:min(len(open), MaxOpenBreakersListed)]
}

// Logs returns the last log lines of a plugin, oldest first.
func (p *Pipeline) Logs(name string) ([]LogLine, error) {
	for _, pl := range *p.order.Load() {
		if pl.name == name {
			return pl.env.log.snapshot(), nil
		}
	}
	return nil, unknownPlugin(name)
}

// unknownPluginError is the error of calls that name a plugin which is not configured.
type unknownPluginError struct{ name string }

func (e *unknownPluginError) Error() string { return fmt.Sprintf("%q: plugin not configured", e.name) }

// Is tells that the error is [os.ErrNotExist].
func (e *unknownPluginError) Is(target error) bool { return target == os.ErrNotExist }

// unknownPlugin returns an error that is [os.ErrNotExist].
func unknownPlugin(name string) error { return &unknownPluginError{name} }

// compareBools orders false before true.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
