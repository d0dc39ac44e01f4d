package plugins

import (
	"strings"
	"sync"
	"time"
)

// Chain is the list of plugins with effect that the events of a group pass, in order. Shadows are not part of it.
// Methods are safe for concurrent use.
type Chain struct {
	key   string
	steps []*plugin
}

// Key is equal for chains of the same plugins, also across changes of the pipeline. No chain has an empty key.
func (c *Chain) Key() string { return c.key }

// QueueBytes returns how many bytes of events may wait for the chain: the smallest value of its plugins.
func (c *Chain) QueueBytes() int {
	least := c.steps[0].spec.Load().QueueBytes
	for _, p := range c.steps[1:] {
		least = min(least, p.spec.Load().QueueBytes)
	}
	return least
}

// QueueAge returns how long an event may wait for the chain: the smallest value of its plugins.
func (c *Chain) QueueAge() time.Duration {
	least := c.steps[0].spec.Load().QueueAge
	for _, p := range c.steps[1:] {
		least = min(least, p.spec.Load().QueueAge)
	}
	return least
}

// Slowest returns the name of the plugin whose recent calls took longest, for the groups with a hash. A plugin whose
// first call has not returned is the slowest.
func (c *Chain) Slowest(hash uint64) string {
	slowest, pace := c.steps[0].name, int64(-1)
	if len(c.steps) == 1 {
		return slowest
	}
	for _, p := range c.steps {
		d := p.deployment.Load()
		for _, m := range [...]*module{d.live, d.canary.candidate()} { // which of them serves the group is not known
			if m == nil {
				continue
			}
			if took := m.slot(hash).currentPace(); took > pace {
				slowest, pace = p.name, took
			}
		}
	}
	return slowest
}

// Chain returns the chain of a group, and the hash by which each of its plugins selects an instance. The chain is nil
// if no plugin has an effect on the group's events. It is found by one lookup in a table, without waiting.
func (p *Pipeline) Chain(group string) (c *Chain, hash uint64) {
	rt := p.routes.Load().find(group)
	return rt.chain, rt.hash
}

// chains holds the chains of a state of the pipeline, so that groups with equal chains share one.
type chains struct {
	mu    sync.Mutex
	byKey map[string]*Chain
}

// of returns the chain of a route's steps, or nil if none of them has an effect.
func (cs *chains) of(steps []step) *Chain {
	var names []string
	var list []*plugin
	for i := range steps {
		if !steps[i].shadow {
			names, list = append(names, steps[i].name), append(list, steps[i].plugin)
		}
	}
	if len(list) == 0 {
		return nil
	}
	key := strings.Join(names, " ")
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.byKey == nil {
		cs.byKey = map[string]*Chain{}
	}
	c := cs.byKey[key]
	if c == nil {
		c = &Chain{key, list}
		cs.byKey[key] = c
	}
	return c
}
