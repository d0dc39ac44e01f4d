package mesh

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/judge"
)

// row is the outcome of a scenario, for tables.
type row struct {
	Scenario string `json:"scenario"`
	Version  string `json:"version,omitempty"`
	// Events is the number of events per client and emitter that were judged.
	Deliveries int `json:"deliveries"`
	LeastLost  int `json:"least_lost"`
	MostLost   int `json:"most_lost"`
	Expected   int `json:"expected"`
	Doubled    int `json:"doubled"`
	Reordered  int `json:"reordered"`
	// LostBetween are events that no client of another node got, summed over the pairs of nodes; Counted are those that
	// the senders' counters have.
	LostBetween int            `json:"lost_between_nodes"`
	Counted     map[string]int `json:"counted"`
	Untold      int            `json:"untold"`
	ToldAfter   float64        `json:"told_after_seconds"`
	Needless    int            `json:"needless_notices"`
	LongestGap  float64        `json:"longest_gap_seconds"`
	Latest      float64        `json:"latest_seconds"`
	Recovered   int            `json:"recovered"`
	FirstBack   float64        `json:"first_back_seconds"`
	LastBack    float64        `json:"last_back_seconds"`
	Closed      map[string]int `json:"closed,omitempty"`
	Remarks     []string       `json:"remarks,omitempty"`
	Faults      []string       `json:"faults,omitempty"`
}

func newRow(name string, r *judge.Report, run *played) *row {
	lost := 0
	for _, n := range r.Between {
		lost += n
	}
	return &row{
		Scenario: name, Version: os.Getenv("MESH_LABEL"), Deliveries: r.Deliveries, LeastLost: r.LeastLost, MostLost: r.MostLost,
		Expected: run.expected, Doubled: r.Doubled, Reordered: r.Reordered, LostBetween: lost, Counted: run.reasons,
		Untold: r.Untold, ToldAfter: r.ToldAfter.Seconds(), Needless: r.Needless, LongestGap: r.LongestGap.Seconds(),
		Latest: r.Latest.Seconds(), Recovered: r.Recovered, FirstBack: r.FirstBack.Seconds(), LastBack: r.LastBack.Seconds(),
		Closed: r.Closed, Remarks: run.remarks,
	}
}

const tableHead = "| scenario | version | lost per client and emitter | doubled, reordered | lost between nodes | counted | untold losses | told within | longest gap | latest event | back after the repair | closed | remarks | faults |\n" +
	"|---|---|--:|--:|--:|---|--:|--:|--:|--:|--:|---|---|---|\n"

// markdown returns the row of a table with tableHead.
func (r *row) markdown() string {
	seconds := func(s float64) string { return fmt.Sprintf("%.1f s", s) }
	back := "–"
	if r.Recovered > 0 {
		back = fmt.Sprintf("%.1f – %.1f s", r.FirstBack, r.LastBack)
	}
	lost := fmt.Sprintf("%d of %d", r.MostLost, r.Expected)
	if r.LeastLost != r.MostLost {
		lost = fmt.Sprintf("%d – %s", r.LeastLost, lost)
	}
	cells := []string{
		r.Scenario, r.Version, lost, fmt.Sprint(r.Doubled, ", ", r.Reordered), fmt.Sprint(r.LostBetween), counts(r.Counted),
		fmt.Sprint(r.Untold), seconds(r.ToldAfter), seconds(r.LongestGap), seconds(r.Latest), back, counts(r.Closed),
		strings.Join(r.Remarks, "; "), strings.Join(r.Faults, "; "),
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func counts(m map[string]int) string {
	var parts []string
	for _, name := range sortedKeys(m) {
		if m[name] > 0 {
			parts = append(parts, fmt.Sprint(m[name], " ", name))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}

// record logs the row and appends it to the file of MESH_RESULTS.
func (r *row) record(t *testing.T) {
	t.Helper()
	t.Logf("\n%s%s", tableHead, r.markdown())
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
		line = r.markdown()
		if _, err := os.Stat(file); os.IsNotExist(err) {
			line = tableHead + line
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

func TestMarkdownRow(t *testing.T) {
	r := &row{
		Scenario: "link down", Version: "v1", LeastLost: 1, MostLost: 2, Expected: 10, Counted: map[string]int{"expired": 2, "queue_full": 0},
		Recovered: 1, LastBack: (1500 * time.Millisecond).Seconds(),
	}
	const want = "| link down | v1 | 1 – 2 of 10 | 0, 0 | 0 | 2 expired | 0 | 0.0 s | 0.0 s | 0.0 s | 0.0 – 1.5 s | 0 |  |  |\n"
	if got := r.markdown(); got != want {
		t.Errorf("got  %s, want %s", got, want)
	}
}
