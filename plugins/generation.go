package plugins

import (
	"errors"
	"slices"
	"sync/atomic"
)

// moduleCount numbers loaded modules, so that no two modules of the process have the same number.
var moduleCount atomic.Uint64

// ErrReclassified is returned by [Pipeline.Render] if the class is of an earlier generation.
var ErrReclassified = errors.New("the classes of the group's subscriptions are being decided again")

// classify adds a module to a generation, if the module classifies subscriptions. A generation identifies the modules
// that have classified a subscription, or that an event has been through, in order; it is 0 if there are none. The
// number of an audience class has a meaning only within a generation: another module may use the same number for
// another audience.
// See docs/decisions/plugins.md#why-do-classes-carry-a-generation
func (m *module) classify(generation uint64) uint64 {
	if m == nil || m.hooks&OnSubscribe == 0 {
		return generation
	}
	return mixGeneration(generation, m.number)
}

// liveGeneration returns the generation of the modules that decide for a route's group.
func (rt *route) liveGeneration() (generation uint64) {
	for i := range rt.steps {
		if s := &rt.steps[i]; !s.shadow {
			generation = s.serving(rt.group).classify(generation)
		}
	}
	return generation
}

// mixGeneration is FNV-1a over the numbers of modules. The result is not 0.
func mixGeneration(generation, number uint64) uint64 {
	const basis, prime = 14695981039346656037, 1099511628211
	if generation == 0 {
		generation = basis
	}
	for range 8 {
		generation = (generation ^ number&0xff) * prime
		number >>= 8
	}
	return max(generation, 1)
}

// Generation identifies the modules that classify the subscriptions of a group now, see [Decision]. It is 0 if no
// plugin of the group has on_subscribe.
func (p *Pipeline) Generation(group string) uint64 {
	return p.routes.Load().find(group).liveGeneration()
}

// OnReclassify calls f after each change by which the generation of a group may have changed. f must return quickly.
// Subscribers are then of an outdated generation until [Pipeline.Subscribe] is called for them again.
func (p *Pipeline) OnReclassify(f func()) { p.onReclassify.Store(&f) }

// classifiers identifies the modules that classify subscriptions, and their groups. The caller holds p.mu.
func (r *routes) classifiers() (c []classifier) {
	for i := range r.bindings {
		b := &r.bindings[i]
		d := b.deployment.Load()
		generation := d.canary.candidate().classify(d.live.classify(0))
		if generation != 0 && d.canary != nil { // another share concerns other groups
			generation = mixGeneration(generation, d.canary.threshold)
		}
		if generation != 0 && !b.shadow {
			c = append(c, classifier{generation, b.patterns})
		}
	}
	return c
}

// classifier is a module that classifies the subscriptions of groups.
type classifier struct {
	generation uint64
	patterns   []string
}

func (c classifier) equal(o classifier) bool {
	return c.generation == o.generation && slices.Equal(c.patterns, o.patterns)
}
