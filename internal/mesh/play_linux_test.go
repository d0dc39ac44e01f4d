package mesh

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/mesh/judge"
	"github.com/edgerelay/edgerelay/internal/mesh/site"
	"github.com/edgerelay/edgerelay/internal/mesh/wire"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// full reports whether all scenarios run.
func full() bool { return os.Getenv("MESH") == "full" }

func TestMain(m *testing.M) {
	if err := wire.RemoveAbandoned(); err != nil {
		fmt.Fprintln(os.Stderr, "namespaces of an earlier run cannot be removed:", err)
	}
	os.Exit(peers.Main(m))
}

// limits are the promises of a scenario. No event may be doubled or reordered in any.
type limits struct {
	// lossy: events may be lost; each is told to its clients and counted by the sender.
	lossy bool
	// uncounted: the counters do not have each loss, because a node without them, or a run that was killed, lost events.
	uncounted bool
	// closing: clients may be closed, as the scenario ends their node.
	closing bool
	// back bounds the time from a repair to the next event, gap that without an event, late the lateness; 0: no bound.
	back, gap, late time.Duration
}

// scenario is a fault with its promises.
type scenario struct {
	name    string
	short   bool // belongs to the short form
	options site.Options
	prepare func(p *played) // before the events begin
	fault   func(p *played)
	limits  limits
}

// played is a scenario in progress.
type played struct {
	*site.Site
	t        *testing.T
	expected int
	reasons  map[string]int
	remarks  []string
	faults   []string
}

// remark adds a figure to the scenario's row.
func (p *played) remark(format string, args ...any) {
	p.remarks = append(p.remarks, fmt.Sprintf(format, args...))
}

// fail adds a broken promise to the row.
func (p *played) fail(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// play runs a scenario from its start to the judgment.
func (s *scenario) play(t *testing.T, name string) {
	p := &played{Site: site.Start(t, s.options), t: t, reasons: map[string]int{}}
	if s.prepare != nil {
		s.prepare(p)
	}
	p.Begin()
	s.fault(p)
	report := p.End()
	p.count(report, s.limits)
	p.compare(report, s.limits)
	r := newRow(name, report, p)
	r.Faults = p.faults
	r.record(t)
	for _, f := range p.faults {
		t.Error(f)
	}
}

// lossReasons are the reasons of dropped_total that stand for events which a peer did not get.
var lossReasons = []string{"queue_full", "expired", "link_lost"}

// count compares the counters of each node with the events that the clients of other nodes did not get.
func (p *played) count(report *judge.Report, l limits) {
	for _, n := range p.Nodes {
		counted := 0
		samples := n.Counters()
		for _, reason := range lossReasons {
			v := int(samples[fmt.Sprintf("edgerelay_backplane_dropped_total{reason=%q}", reason)])
			p.reasons[reason] += v
			counted += v
		}
		lost := 0
		for pair, count := range report.Between {
			if pair[0] == n.Name {
				lost += count
			}
		}
		if lost != counted && !l.uncounted {
			p.fail("node %s counts %d dropped events; other nodes did not get %d", n.Name, counted, lost)
		}
	}
}

// compare compares a report with the promises.
func (p *played) compare(r *judge.Report, l limits) {
	p.expected = p.Expected()
	if r.Doubled > 0 || r.Reordered > 0 {
		p.fail("%d events doubled, %d reordered", r.Doubled, r.Reordered)
	}
	if r.Lost > 0 && !l.lossy {
		p.fail("%d deliveries lost", r.Lost)
	}
	if r.Untold > 0 {
		p.fail("clients were not told of %d of %d lost deliveries", r.Untold, r.Lost)
	}
	if len(r.Closed) > 0 && !l.closing {
		p.fail("clients closed: %s", counts(r.Closed))
	}
	for _, bound := range []struct {
		name       string
		got, limit time.Duration
	}{
		{"the first event after a repair came after", r.LastBack, l.back},
		{"the longest gap was", r.LongestGap, l.gap},
		{"an event was late by", r.Latest, l.late},
	} {
		if bound.limit > 0 && bound.got > testkit.Scale(bound.limit) {
			p.fail("%s %.1f s, want %.1f s at most", bound.name, bound.got.Seconds(), testkit.Scale(bound.limit).Seconds())
		}
	}
	if r.Deliveries == 0 || p.expected == 0 {
		p.fail("the scenario proves nothing: %d deliveries, %d events", r.Deliveries, p.expected)
	}
}

// possible skips or fails a test where namespaces cannot be made.
func possible(t *testing.T) {
	t.Helper()
	err := wire.Possible()
	switch {
	case err == nil:
	case full():
		t.Fatalf("network namespaces cannot be made here: %v", err)
	default:
		t.Skipf("not run, since network namespaces cannot be made here: %v", err)
	}
}

func sortedKeys(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }

// variant is a kind of mesh in which scenarios are played.
type variant struct {
	name string
	// possible reports whether the kind of mesh can be made; nil: it can.
	possible func() bool
	change   func(s *scenario)
	// scenarios are the names of those that are played; empty: all.
	scenarios []string
}

// playAll plays the scenarios in each variant, one after another: the figures are about time.
func playAll(t *testing.T, scenarios []scenario, variants []variant) {
	possible(t)
	for _, v := range variants {
		if v.possible != nil && !v.possible() {
			t.Logf("not played: %s", v.name)
			continue
		}
		for _, s := range scenarios {
			if len(v.scenarios) > 0 && !slices.Contains(v.scenarios, s.name) || !full() && (!s.short || v.name != "") {
				continue
			}
			name := strings.TrimSuffix(s.name+", "+v.name, ", ")
			t.Run(strings.NewReplacer(" ", "-", ",", "", ".", "").Replace(name), func(t *testing.T) {
				if v.change != nil {
					v.change(&s)
				}
				s.play(t, name)
			})
		}
	}
}
