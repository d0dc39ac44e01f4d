package mesh

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/mesh/judge"
	"github.com/edgerelay/edgerelay/internal/mesh/site"
	"github.com/edgerelay/edgerelay/internal/mesh/wire"
)

// full reports whether all scenarios run.
func full() bool { return os.Getenv("MESH") == "full" }

func TestMain(m *testing.M) {
	if err := wire.RemoveAbandoned(); err != nil {
		fmt.Fprintln(os.Stderr, "namespaces of an earlier run cannot be removed:", err)
	}
	os.Exit(peers.Main(m))
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
	limits   limits
	t        *testing.T
	report   *judge.Report
	expected int
	reasons  map[string]int
	remarks  []string
	faults   []string // broken promises, without those about time
	slow     []string // broken promises about time
}

// remark adds a figure to the scenario's row.
func (p *played) remark(format string, args ...any) {
	p.remarks = append(p.remarks, fmt.Sprintf(format, args...))
}

// fail adds a broken promise to the row.
func (p *played) fail(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// play runs a scenario. If all promises but those about time are kept and the machine is busy, it runs once more.
func (s *scenario) play(t *testing.T, name string) {
	var slow string
	t.Run("1", func(t *testing.T) { slow = s.attempt(t, name, "") })
	if slow != "" {
		t.Run("2", func(t *testing.T) { s.attempt(t, name, slow) })
	}
}

// attempt runs a scenario from its start to the judgment. before are the broken promises of an attempt before. If only
// a promise about time is broken, and the load may be the reason, the first attempt returns it.
func (s *scenario) attempt(t *testing.T, name, before string) (slow string) {
	p := &played{Site: site.Start(t, s.options), limits: s.limits, t: t, reasons: map[string]int{}}
	if s.prepare != nil {
		s.prepare(p)
	}
	p.Begin()
	s.fault(p)
	p.report = p.End()
	p.expected = p.Expected()
	p.compareCounters(p.count())
	p.compare()
	if before != "" {
		p.remark("second attempt after: %s", before)
	}
	if load := busy(); len(p.slow) > 0 && load > 1 {
		p.remark("%.1f processes per processor", load)
		if before == "" && len(p.faults) == 0 {
			slow = strings.Join(p.slow, ", ")
			p.slow = nil
			p.remark("to be repeated: %s", slow)
		}
	}
	r := newRow(name, p)
	record(t, r)
	for _, f := range r.Faults {
		t.Error(f)
	}
	return slow
}

// possible skips or fails a test where namespaces cannot be made.
func possible(t *testing.T) {
	t.Helper()
	if err := wire.Possible(); err != nil && full() {
		t.Fatalf("network namespaces cannot be made here: %v", err)
	}
	wire.Need(t)
}

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
			t.Run(strings.NewReplacer(" ", "-", "/", "-", ",", "", ".", "").Replace(name), func(t *testing.T) {
				if v.change != nil {
					v.change(&s)
				}
				s.play(t, name)
			})
		}
	}
}
