package history

import (
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

func TestFirstMatchingRuleApplies(t *testing.T) {
	var p Policy
	if _, ok := p.Limits("job_1"); ok {
		t.Error("a history without rules")
	}
	p.Set(relay.HistoryPolicy{Rules: []relay.HistoryRule{
		{Pattern: "job_1", HistoryLimits: relay.HistoryLimits{Count: 1}},
		{Pattern: "job_*", HistoryLimits: relay.HistoryLimits{Count: 2}},
	}})
	for group, want := range map[string]int{"job_1": 1, "job_2": 2, "job_": 2, "job": 0, "xjob_1": 0} {
		if limits, ok := p.Limits(group); limits.Count != want || ok != (want > 0) {
			t.Errorf("%s: count %d, want %d", group, limits.Count, want)
		}
	}
}

func BenchmarkLimits(b *testing.B) {
	var p Policy
	p.Set(relay.HistoryPolicy{Rules: []relay.HistoryRule{{Pattern: "jobs-*"}, {Pattern: "job_events-*"}}})
	for b.Loop() {
		p.Limits("job_events-1234")
	}
}

func TestExemptGroupsHaveNoHistory(t *testing.T) {
	policy := relay.HistoryPolicy{Rules: []relay.HistoryRule{{Pattern: "*"}}, Exempt: []string{"broadcast-a"}}
	var p Policy
	p.Set(policy)
	for group, want := range map[string]bool{"broadcast-a": false, "broadcast-ab": true, "other": true} {
		if _, ok := p.Limits(group); ok != want {
			t.Errorf("%s has a history: %v, want %v", group, ok, want)
		}
		if _, ok := policy.Limits(group); ok != want {
			t.Errorf("%s has a history by the policy: %v, want %v", group, ok, want)
		}
	}
}
