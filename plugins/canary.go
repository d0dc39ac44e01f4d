package plugins

import (
	"errors"
	"math"
	"time"
)

// Canary describes a trial of another module of a plugin: the candidate decides for a share of the groups, and the live
// module, which is called the stable one then, decides for the others.
type Canary struct {
	// ID identifies the canary. It selects the groups: with the same ID and Share, all nodes select the same ones.
	ID string
	// Share of the groups, above 0 and up to 1. A larger share includes the groups of a smaller one.
	Share float64
	// Since is the time of the start, for readers.
	Since  time.Time
	Limits CanaryLimits
}

// CanaryLimits are the limits beyond which a candidate is to be taken back.
type CanaryLimits struct {
	// MaxErrors is the share of the candidate's events that may fail, 0 to 1. More failures count only if the stable
	// module fails less often.
	MaxErrors float64
	// MaxSlowdown is how many times as long as the stable module the candidate may take for an event; 0: without limit.
	MaxSlowdown float64
	// MaxDiffer is the share of events of other groups about which the candidate, as a shadow, may decide otherwise than
	// the stable module, 0 to 1; nil: without limit.
	MaxDiffer *float64
}

// ErrNoCanary is wrapped by errors of plugins that have no canary, or cannot have one.
var ErrNoCanary = errors.New("no canary")

// canary is a canary of a deployment. The value is immutable, but for the counts of its trial.
type canary struct {
	id        string
	share     float64
	key       uint64
	threshold uint64 // the upper 32 bits of the hashes of the candidate's groups are below
	module    *module
	trial     *canaryTrial
}

// newCanary returns a canary of a module.
func newCanary(c *Canary, m *module, trial *canaryTrial) *canary {
	out := &canary{id: c.ID, key: hashCanary(0, c.ID), module: m, trial: trial}
	return out.resized(c.Share)
}

// resized returns the canary with another share of the groups.
func (c *canary) resized(share float64) *canary {
	out := *c
	out.share = share
	out.threshold = uint64(math.Round(share * (1 << 32)))
	return &out
}

// candidate returns the module of a canary, nil if there is no canary.
func (c *canary) candidate() *module {
	if c == nil {
		return nil
	}
	return c.module
}

// takes reports whether the candidate decides for a group. For the clients of a function, the path takes the place of
// the group, and for alarms their name.
func (c *canary) takes(group string) bool { return hashCanary(c.key, group)>>32 < c.threshold }

// shadowShare is the share of the groups whose events the candidate sees as a shadow.
const shadowShare = 0.1

// samples reports whether the candidate sees events of a group as a shadow. The groups are those that the canary would
// take next.
func (c *canary) samples(group string) bool {
	at := hashCanary(c.key, group) >> 32
	return at >= c.threshold && float64(at-c.threshold) < shadowShare*(1<<32)
}

// hashCanary hashes a group's name with a key, the same on all nodes. The hash need not resist an attack: whoever could
// choose the names of groups would only choose between two modules that both guard the group.
func hashCanary(key uint64, group string) uint64 {
	const basis, prime = 14695981039346656037, 1099511628211
	h := key ^ basis
	for i := range len(group) {
		h = (h ^ uint64(group[i])) * prime
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd // the finalizer of MurmurHash3: FNV alone mixes the last bytes too little
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// observeCanary counts the result of an event that began in a canary, and shows some events to the candidate's shadow.
func (p *plugin) observeCanary(
	d *deployment, began int64, hash uint64, ev *Event, hops int, res *result, err error,
) {
	took := time.Duration(elapsed() - began)
	// After a change, it is not known which module has decided. A replay may repeat the same failure for each client.
	if ev.isReplay() || res.removed || p.deployment.Load() != d {
		return
	}
	c := d.canary
	if c.takes(ev.Group) {
		c.trial.candidate.count(took, err)
		return
	}
	c.trial.stable.count(took, err)
	if beside := c.trial.beside; beside != nil && err == nil && c.samples(ev.Group) {
		beside.observe(hash, ev, hops, res)
	}
}

// observeHook counts the result of a call of on_class or on_subscribe that began in a canary.
func (p *plugin) observeHook(d *deployment, began int64, key breakerKey, err error) {
	took := time.Duration(elapsed() - began)
	if key.ofReplay() || p.deployment.Load() != d { // as in observeCanary
		return
	}
	pair := &d.canary.trial.subscribes
	if key.hook == OnClass {
		pair = &d.canary.trial.classes
	}
	if d.canary.takes(key.group) {
		pair.candidate.count(took, err)
	} else {
		pair.stable.count(took, err)
	}
}

// callFunctionInCanary is callFunction while a canary runs: it counts the results of both modules.
func (p *plugin) callFunctionInCanary(d *deployment, f functionInput) (*effects, error) {
	began := elapsed()
	made, failure, err := p.decideFunction(f)
	took := time.Duration(elapsed() - began)
	switch c := d.canary; {
	case p.deployment.Load() != d || errors.Is(err, errNoFunction) || errors.Is(err, ErrBusy):
		// It is not known which module was called, or none was.
	case c.takes(f.place):
		c.trial.candidate.count(took, failure)
	default:
		c.trial.stable.count(took, failure)
	}
	return made, err
}
