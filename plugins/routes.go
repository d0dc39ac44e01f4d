package plugins

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// step is a plugin of a group's chain, with the shadows that see the same events.
type step struct {
	*plugin
	shadows []*plugin
	shadow  bool // the plugin itself is a shadow, without effect
}

// route is the path of a group's events through the pipeline.
type route struct {
	group string
	hash  uint64
	steps []step
	chain *Chain // nil if no step has an effect
}

// binding ties a step to patterns of group names.
type binding struct {
	step
	patterns []string
}

// routes is a state of the pipeline: the bindings in order, and the routes of recent groups. A change replaces it
// as a whole. Each place of the table holds one route, and a new route evicts the old one. An evicted route is found
// again by matching, so the table needs neither a lock nor a bound on the number of groups.
// See docs/decisions/plugins.md#why-is-the-routing-table-a-fixed-array
type routes struct {
	bindings []binding
	seed     maphash.Seed
	observes bool // some shadow is compared with Pass
	chains   chains
	table    [4096]atomic.Pointer[route]
}

func newRoutes(bindings []binding, seed maphash.Seed) *routes {
	r := &routes{bindings: bindings, seed: seed}
	for i := range bindings {
		r.observes = r.observes || bindings[i].shadow
	}
	return r
}

// find returns the route of a group.
func (r *routes) find(group string) *route {
	hash := maphash.String(r.seed, group)
	place := &r.table[hash%uint64(len(r.table))]
	if known := place.Load(); known != nil && known.group == group {
		return known
	}
	found := &route{group: strings.Clone(group), hash: hash / uint64(len(r.table))}
	for _, b := range r.bindings {
		for _, p := range b.patterns {
			if match(p, group) {
				found.steps = append(found.steps, b.step)
				break
			}
		}
	}
	found.chain = r.chains.of(found.steps)
	place.Store(found)
	return found
}

// MatchGroup reports whether a group matches a pattern of [Spec].Groups.
func MatchGroup(pattern, group string) bool { return match(pattern, group) }

// match reports whether a pattern covers all of s; "*" stands for any run of characters. At worst the time is
// proportional to the product of the two lengths.
func match(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
