package mesh

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/mesh/result"
)

func newRow(name string, p *played) *result.Row {
	r, lost, pairs := p.report, 0, map[string]int{}
	for pair, n := range r.Between {
		if lost += n; n > 0 {
			pairs[pair[0]+" to "+pair[1]] = n
		}
	}
	expected := p.expected
	if r.MostLost > 0 {
		expected = r.MostOf
	}
	return &result.Row{
		Scenario: name, Version: os.Getenv("MESH_LABEL"), Deliveries: r.Deliveries, LeastLost: r.LeastLost,
		MostLost: r.MostLost, Expected: expected, Doubled: r.Doubled, Reordered: r.Reordered, LostBetween: lost, Pairs: pairs,
		Counted: p.reasons, Untold: r.Untold, ToldAfter: r.ToldAfter.Seconds(), Needless: r.Needless,
		Needlessly: r.Needlessly[:min(3, len(r.Needlessly))], LongestGap: r.LongestGap.Seconds(), Latest: r.Latest.Seconds(),
		Recovered: r.Recovered, FirstBack: r.FirstBack.Seconds(), LastBack: r.LastBack.Seconds(),
		BackLimit: p.limits.back.Seconds(), Closed: r.Closed, Remarks: p.remarks, Faults: append(p.faults, p.slow...),
	}
}

// record logs the row and appends it to the file of MESH_RESULTS.
func record(t *testing.T, r *result.Row) {
	t.Helper()
	t.Logf("\n%s%s", result.Head, r.Markdown())
	file := os.Getenv("MESH_RESULTS")
	if file == "" {
		return
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	line := string(text) + "\n"
	if !strings.HasSuffix(file, ".json") {
		line = r.Markdown()
		if _, err := os.Stat(file); os.IsNotExist(err) {
			line = result.Head + line
		}
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(line)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		t.Fatal(err)
	}
}
