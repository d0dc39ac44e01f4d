package plugins

import "time"

// CanaryReport is the state of a canary on this node.
type CanaryReport struct {
	ID string `json:"id"`
	// Hash identifies the candidate.
	Hash string `json:"hash"`
	// Share of the groups, above 0 and up to 1.
	Share float64   `json:"share"`
	Since time.Time `json:"since,omitzero"`
	// Candidate and Stable count the events of the two modules since the canary started here.
	Candidate CanaryCalls `json:"candidate"`
	Stable    CanaryCalls `json:"stable"`
	// OnClass and OnSubscribe count the calls of these hooks by the two modules, if there were any.
	OnClass     *CanaryHook `json:"on_class,omitempty"`
	OnSubscribe *CanaryHook `json:"on_subscribe,omitempty"`
	// Same and Differ count the candidate's decisions as a shadow, over a tenth of the groups beside its own, by
	// comparison with the stable module's. Skipped counts the events that were not compared.
	Same    uint64 `json:"same"`
	Differ  uint64 `json:"differ"`
	Skipped uint64 `json:"skipped,omitempty"`
	// NotCompared is the reason why the candidate does not run as a shadow.
	NotCompared string `json:"not_compared,omitempty"`
	// Fault is the reason for which the candidate is to be taken back, empty if there is none.
	Fault string `json:"fault,omitempty"`
}

// CanaryCalls counts the events of a module in a canary. Events of replays do not count.
type CanaryCalls struct {
	Events   uint64 `json:"events"`
	Failures uint64 `json:"failures"`
	// MedianSeconds and P90Seconds are the durations within which a half, and nine tenths, of the events were decided.
	MedianSeconds float64 `json:"median_seconds"`
	P90Seconds    float64 `json:"p90_seconds"`
}

// CanaryHook counts the calls of a hook by the two modules.
type CanaryHook struct {
	Candidate CanaryCalls `json:"candidate"`
	Stable    CanaryCalls `json:"stable"`
}

func (c *pairCounts) report() *CanaryHook {
	if c.candidate.calls+c.stable.calls == 0 {
		return nil
	}
	return &CanaryHook{c.candidate.report(), c.stable.report()}
}

func (c *callCounts) report() CanaryCalls {
	return CanaryCalls{c.calls, c.failures, c.quantile(0.5).Seconds(), c.quantile(0.9).Seconds()}
}

// JudgeCanary judges the candidate of a plugin by its recent events, and returns the state of the canary, or false if
// there is none. The caller calls it about every second, and takes back a candidate with a Fault.
func (p *Pipeline) JudgeCanary(name string) (CanaryReport, bool) {
	for _, pl := range *p.order.Load() {
		if pl.name == name {
			return pl.canaryReport(true)
		}
	}
	return CanaryReport{}, false
}

// canaryReport returns the state of a plugin's canary, or false if there is none. With judge, it judges recent events.
func (p *plugin) canaryReport(judge bool) (CanaryReport, bool) {
	c := p.deployment.Load().canary
	if c == nil {
		return CanaryReport{}, false
	}
	beside := c.trial.beside
	counts := c.trial.counts()
	r := CanaryReport{
		ID: c.id, Hash: c.module.hash, Share: c.share, Since: c.trial.since, Candidate: counts.candidate.report(),
		Stable: counts.stable.report(), Same: counts.same, Differ: counts.differ, NotCompared: c.trial.unseen,
		OnClass: counts.classes.report(), OnSubscribe: counts.subscribes.report(),
	}
	if beside != nil {
		r.Skipped = beside.shadow.skipped.Load()
	}
	if judge {
		r.Fault = c.trial.judge(&counts, p.env.now())
	}
	return r, true
}
