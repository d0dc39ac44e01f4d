package mesh

import (
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/judge"
)

// pair is one of sender and receiver.
type pair = [2]string

func TestBrokenPromisesAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		limits  limits
		report  judge.Report
		counted map[string]int
		want    string // all faults
	}{
		"none":          {},
		"doubled":       {report: judge.Report{Doubled: 1}, want: "1 events doubled, 0 reordered"},
		"lost":          {report: judge.Report{Lost: 2}, want: "2 deliveries lost"},
		"lost, allowed": {limits: limits{lossy: true}, report: judge.Report{Lost: 2}},
		"untold":        {limits: limits{lossy: true}, report: judge.Report{Lost: 2, Untold: 1}, want: "not told of 1 of 2"},
		"needless": {
			report: judge.Report{Needless: 1, Needlessly: []string{"a1: gap"}}, want: "that lost nothing, such as a1: gap",
		},
		"needless, lost": {limits: limits{lossy: true}, report: judge.Report{Needless: 1, Needlessly: []string{"a1: gap"}}},
		"needless, of a long outage": {
			limits: limits{told: true}, report: judge.Report{Needless: 1, Needlessly: []string{"a1: gap"}},
		},
		"closed": {report: judge.Report{Closed: map[string]int{"1008": 1}}, want: "clients closed: 1 1008"},
		"counted": {
			limits: limits{lossy: true}, counted: map[string]int{"a": 2, "b": 0},
			report: judge.Report{Between: map[pair]int{{"a", "b"}: 2}, Accountable: map[pair]int{{"a", "b"}: 2}},
		},
		"one not counted": {
			limits: limits{lossy: true}, counted: map[string]int{"a": 1, "b": 0},
			report: judge.Report{Between: map[pair]int{{"a", "b"}: 2}, Accountable: map[pair]int{{"a", "b"}: 2}},
			want:   "node a counts 1 dropped events; other nodes did not get 2",
		},
		"counted but not lost": {counted: map[string]int{"a": 1}, want: "node a counts 1 dropped events"},
		"lost in an absence, part of it counted": {
			limits: limits{lossy: true}, counted: map[string]int{"a": 3, "b": 0},
			report: judge.Report{Between: map[pair]int{{"a", "b"}: 5}, Accountable: map[pair]int{{"a", "b"}: 2}},
		},
		"lost to a node that counts nothing": {
			limits: limits{foreign: true}, counted: map[string]int{"a": 0},
			report: judge.Report{Between: map[pair]int{{"a", "x"}: 5}, Accountable: map[pair]int{{"a", "x"}: 5}},
		},
		"lost between nodes that keep events": {
			limits: limits{foreign: true}, counted: map[string]int{"a": 5, "b": 0},
			report: judge.Report{Between: map[pair]int{{"a", "b"}: 5}, Accountable: map[pair]int{{"a", "b"}: 5}},
			want:   "5 events lost between nodes that keep them",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.report.Deliveries = 1
			p := &played{limits: c.limits, report: &c.report, expected: 1}
			p.compareCounters(c.counted)
			p.compare()
			got := strings.Join(append(p.faults, p.slow...), "; ")
			if !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestBoundsOfTimeAreNotScaledInTheFullForm(t *testing.T) {
	t.Setenv("MESH", "full")
	t.Setenv("EDGERELAY_TEST_PATIENCE", "3")
	p := &played{
		limits: limits{back: time.Second}, expected: 1,
		report: &judge.Report{Deliveries: 1, LastBack: 1100 * time.Millisecond},
	}
	p.compare()
	const want = "the first event after a repair came after 1.10 s, want 1.00 s at most"
	if len(p.faults) != 0 || strings.Join(p.slow, "; ") != want {
		t.Errorf("got %q and %q, want %q", p.faults, p.slow, want)
	}
}
