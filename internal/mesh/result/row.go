// Package result has the outcome of a scenario of the mesh as a row of a table.
package result

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Row is the outcome of a scenario. Times are in seconds.
type Row struct {
	Scenario string `json:"scenario"`
	Version  string `json:"version,omitempty"`
	// Deliveries is the number of events that clients received.
	Deliveries int `json:"deliveries"`
	// LeastLost and MostLost are the lost events of single clients and emitters, of Expected.
	LeastLost int `json:"least_lost"`
	MostLost  int `json:"most_lost"`
	Expected  int `json:"expected"`
	Doubled   int `json:"doubled"`
	Reordered int `json:"reordered"`
	// LostBetween are events that no client of another node got, summed over the pairs of nodes, and by pair; Counted are
	// those that the senders' counters have, by reason.
	LostBetween int            `json:"lost_between_nodes"`
	Pairs       map[string]int `json:"pairs,omitempty"`
	Counted     map[string]int `json:"counted"`
	Untold      int            `json:"untold"`
	ToldAfter   float64        `json:"told_after_seconds"`
	// Needless are the notices to clients that lost nothing, Needlessly some of them.
	Needless   int      `json:"needless_notices"`
	Needlessly []string `json:"needlessly,omitempty"`
	LongestGap float64  `json:"longest_gap_seconds"`
	Latest     float64  `json:"latest_seconds"`
	// Recovered is the number of clients and emitters between which a fault had ended, FirstBack and LastBack the times
	// until their first events. BackLimit bounds LastBack; 0: nothing does.
	Recovered int            `json:"recovered"`
	FirstBack float64        `json:"first_back_seconds"`
	LastBack  float64        `json:"last_back_seconds"`
	BackLimit float64        `json:"back_limit_seconds,omitempty"`
	Closed    map[string]int `json:"closed,omitempty"`
	Remarks   []string       `json:"remarks,omitempty"`
	Faults    []string       `json:"faults,omitempty"`
}

// Head is the head of a Markdown table of rows.
const Head = "| scenario | version | lost per client and emitter | doubled, reordered | lost between nodes | counted | " +
	"untold losses | told within | needless notices | longest gap | latest event | back after the repair | closed | " +
	"remarks | faults |\n|---|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|---|---|---|\n"

// Markdown returns the row of a table with [Head].
func (r *Row) Markdown() string {
	seconds := func(s float64) string { return fmt.Sprintf("%.1f s", s) }
	back := "–"
	if r.Recovered > 0 {
		back = r.back()
		if r.BackLimit > 0 {
			back += fmt.Sprintf(" (limit %g s)", r.BackLimit)
		}
	}
	lost := fmt.Sprintf("%d of %d", r.MostLost, r.Expected)
	if r.LeastLost != r.MostLost {
		lost = fmt.Sprintf("%d – %s", r.LeastLost, lost)
	}
	cells := []string{
		r.Scenario, r.Version, lost, fmt.Sprint(r.Doubled, ", ", r.Reordered), fmt.Sprint(r.LostBetween), Counts(r.Counted),
		fmt.Sprint(r.Untold), seconds(r.ToldAfter), fmt.Sprint(r.Needless), seconds(r.LongestGap), seconds(r.Latest), back,
		Counts(r.Closed), strings.Join(r.Remarks, "; "), strings.Join(r.Faults, "; "),
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func (r *Row) back() string {
	first, last := fmt.Sprintf("%.1f", r.FirstBack), fmt.Sprintf("%.1f s", r.LastBack)
	if first+" s" == last {
		return last
	}
	return first + " – " + last
}

// Summary returns the outcome in words, for a table of the documentation.
func (r *Row) Summary() string {
	parts := []string{r.losses()}
	if r.Doubled > 0 || r.Reordered > 0 {
		parts = append(parts, fmt.Sprintf("**%d doubled, %d reordered**", r.Doubled, r.Reordered))
	}
	if len(r.Needlessly) > 0 && r.MostLost == 0 {
		parts = append(parts, fmt.Sprintf("%d needless notices", r.Needless))
	}
	switch {
	case r.Recovered > 0 && r.LastBack >= 0.05:
		parts = append(parts, "back after "+r.back())
	default:
		parts = append(parts, fmt.Sprintf("latest event %.1f s late", r.Latest))
	}
	if len(r.Closed) > 0 {
		parts = append(parts, "closed: "+Counts(r.Closed))
	}
	return strings.Join(append(parts, r.Remarks...), "; ")
}

// losses returns the lost events in words.
func (r *Row) losses() string {
	if r.MostLost == 0 {
		return "nothing lost"
	}
	counted := 0
	for _, n := range r.Counted {
		counted += n
	}
	text := fmt.Sprintf("up to %d of %d lost", r.MostLost, r.Expected)
	if r.MostLost > r.Expected { // a row of an earlier form of the test
		text = fmt.Sprintf("up to %d lost", r.MostLost)
	}
	switch {
	case r.LostBetween > 0 && counted == r.LostBetween:
		text += fmt.Sprintf(", all counted (%s)", Counts(r.Counted))
	case r.LostBetween > 0:
		text += fmt.Sprintf(", %d of %d counted", counted, r.LostBetween)
	}
	if r.Untold > 0 {
		return text + fmt.Sprintf(", **%d not told**", r.Untold)
	}
	return text + ", all told"
}

// Counts returns the positive numbers of a map in words.
func Counts(m map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] > 0 {
			parts = append(parts, fmt.Sprint(m[name], " ", name))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}

// Read reads rows, a line of JSON each.
func Read(from io.Reader) (rows []*Row, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		r := &Row{}
		if err := json.Unmarshal(lines.Bytes(), r); err != nil {
			return nil, fmt.Errorf("reading row %d: %w", len(rows)+1, err)
		}
		rows = append(rows, r)
	}
	return rows, lines.Err()
}

// Compare returns a Markdown table with a line for each scenario and a column for each version, in the order of their
// first rows. Of several attempts at a scenario, the last one counts.
func Compare(rows []*Row) string {
	var scenarios, versions []string
	cells := map[[2]string]string{}
	for _, r := range rows {
		if !slices.Contains(scenarios, r.Scenario) {
			scenarios = append(scenarios, r.Scenario)
		}
		if !slices.Contains(versions, r.Version) {
			versions = append(versions, r.Version)
		}
		cells[[2]string{r.Scenario, r.Version}] = r.Summary()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| scenario | %s |\n|%s\n", strings.Join(versions, " | "), strings.Repeat("---|", len(versions)+1))
	for _, s := range scenarios {
		fmt.Fprintf(&b, "| %s |", s)
		for _, v := range versions {
			cell := cells[[2]string{s, v}]
			if cell == "" {
				cell = "–"
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}
