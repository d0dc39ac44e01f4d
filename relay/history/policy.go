// Package history decides which groups have a history.
package history

import (
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/glob"
)

// Policy answers which groups have a history, for each event. It is prepared once: a pattern such as "job_events-*"
// costs the comparison of a prefix. Methods may be called concurrently; the zero Policy gives no group a history.
type Policy struct{ rules atomic.Pointer[[]rule] }

// rule is a prepared rule.
type rule struct {
	pattern glob.Pattern
	limits  relay.HistoryLimits
	// exempt is set if the groups have no history.
	exempt bool
}

// Set replaces the rules.
func (p *Policy) Set(policy relay.HistoryPolicy) {
	rules := make([]rule, 0, len(policy.Exempt)+len(policy.Rules))
	for _, group := range policy.Exempt {
		rules = append(rules, rule{pattern: glob.Literal(group), exempt: true})
	}
	for _, r := range policy.Rules {
		rules = append(rules, rule{pattern: glob.Compile(r.Pattern), limits: r.HistoryLimits})
	}
	p.rules.Store(&rules)
}

// Limits returns the bounds of a group's history, and false for a group without history.
func (p *Policy) Limits(group string) (relay.HistoryLimits, bool) {
	rules := p.rules.Load()
	if rules == nil {
		return relay.HistoryLimits{}, false
	}
	for i := range *rules {
		if r := &(*rules)[i]; r.pattern.Match(group) {
			return r.limits, !r.exempt
		}
	}
	return relay.HistoryLimits{}, false
}
