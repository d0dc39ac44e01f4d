// Package history decides which groups have a history.
package history

import (
	"path"
	"strings"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
)

// Policy answers which groups have a history, for each event. It is prepared once: a pattern such as "job_events-*"
// costs the comparison of a prefix. Methods may be called concurrently; the zero Policy gives no group a history.
type Policy struct{ rules atomic.Pointer[[]rule] }

// rule is a prepared rule.
type rule struct {
	pattern string
	// parts are the texts between the stars of the pattern; nil: the pattern has other special characters.
	parts  []string
	limits relay.HistoryLimits
	// exempt is set if the groups have no history.
	exempt bool
}

// Set replaces the rules.
func (p *Policy) Set(policy relay.HistoryPolicy) {
	rules := make([]rule, 0, len(policy.Exempt)+len(policy.Rules))
	for _, group := range policy.Exempt {
		rules = append(rules, rule{parts: []string{group}, exempt: true})
	}
	for _, r := range policy.Rules {
		one := rule{pattern: r.Pattern, limits: r.HistoryLimits}
		if !strings.ContainsAny(r.Pattern, `?[\`) {
			one.parts = strings.Split(r.Pattern, "*")
		}
		rules = append(rules, one)
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
		if r := &(*rules)[i]; r.matches(group) {
			return r.limits, !r.exempt
		}
	}
	return relay.HistoryLimits{}, false
}

func (r *rule) matches(group string) bool {
	if r.parts == nil {
		ok, err := path.Match(r.pattern, group)
		return ok && err == nil
	}
	first, rest := r.parts[0], r.parts[1:]
	if len(rest) == 0 {
		return group == first
	}
	group, ok := strings.CutPrefix(group, first)
	if !ok {
		return false
	}
	last := len(rest) - 1
	for _, part := range rest[:last] {
		if _, group, ok = strings.Cut(group, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(group, rest[last])
}
