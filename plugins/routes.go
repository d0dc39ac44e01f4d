package plugins

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// step is one plugin of a chain, with the shadows that see what it sees.
type step struct {
	*plugin
	shadows []*plugin
	shadow  bool // it has no effect itself
}

// route is the way of one group through the pipeline.
type route struct {
	group string
	hash  uint64
	steps []step
}

// binding ties a plugin to patterns.
type binding struct {
	step
	patterns []string
}

// routes is one state of the pipeline: the bindings in order, and the routes of groups seen lately. It is replaced as a whole.
// The table holds one route in each place and forgets the one before: what it does not hold is found again by matching, so that it
// needs no bound on the number of groups and no lock.
type routes struct {
	bindings []binding
	seed     maphash.Seed
	table    [4096]atomic.Pointer[route]
}

func newRoutes(bindings []binding, seed maphash.Seed) *routes {
	return &routes{bindings: bindings, seed: seed}
}

// of returns the route of a group.
func (r *routes) of(group string) *route {
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
	place.Store(found)
	return found
}

// match tells whether a pattern, in which "*" stands for any run of characters, covers all of s. It takes time linear in the product of
// their lengths at worst.
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
