package result

import (
	"strings"
	"testing"
)

func TestMarkdownRow(t *testing.T) {
	r := &Row{
		Scenario: "link down", Version: "v1", LeastLost: 1, MostLost: 2, Expected: 10,
		Counted: map[string]int{"expired": 2, "queue_full": 0}, Recovered: 1, LastBack: 1.5, BackLimit: 2,
	}
	const want = "| link down | v1 | 1 – 2 of 10 | 0, 0 | 0 | 2 expired | 0 " +
		"| 0.0 s | 0 | 0.0 s | 0.0 s | 0.0 – 1.5 s (limit 2 s) | 0 |  |  |\n"
	if got := r.Markdown(); got != want {
		t.Errorf("got  %s, want %s", got, want)
	}
	if bars := strings.Count(want, "|"); strings.Count(Head, "|") != 2*bars {
		t.Errorf("the head has %d bars, a row %d", strings.Count(Head, "|"), bars)
	}
}

func TestSummary(t *testing.T) {
	for name, c := range map[string]struct {
		row  Row
		want string
	}{
		"nothing lost": {Row{Recovered: 1, FirstBack: 0.1, LastBack: 0.4}, "nothing lost; back after 0.1 – 0.4 s"},
		"one time":     {Row{Recovered: 1, FirstBack: 0.5, LastBack: 0.54}, "nothing lost; back after 0.5 s"},
		"counted": {
			Row{MostLost: 3, Expected: 10, LostBetween: 5, Counted: map[string]int{"expired": 5}},
			"up to 3 of 10 lost, all counted (5 expired), all told; latest event 0.0 s late",
		},
		"not counted": {
			Row{MostLost: 3, Expected: 10, LostBetween: 5, Counted: map[string]int{"expired": 4}, Untold: 1},
			"up to 3 of 10 lost, 4 of 5 counted, **1 not told**; latest event 0.0 s late",
		},
		"doubled and closed": {
			Row{Doubled: 1, Closed: map[string]int{"1008": 2}, Needless: 4, Needlessly: []string{"a1"}, Latest: 0.2, Remarks: []string{"remark"}},
			"nothing lost; **1 doubled, 0 reordered**; 4 needless notices; latest event 0.2 s late; closed: 2 1008; remark",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.row.Summary(); got != c.want {
				t.Errorf("got  %s, want %s", got, c.want)
			}
		})
	}
}

func TestCompareHasAColumnForEachVersion(t *testing.T) {
	rows, err := Read(strings.NewReader(`{"scenario": "a", "version": "before", "most_lost": 1, "expected": 2}
{"scenario": "a", "version": "now", "most_lost": 1, "expected": 2}
{"scenario": "a", "version": "now"}
{"scenario": "b", "version": "now"}
`))
	if err != nil {
		t.Fatal(err)
	}
	const want = `| scenario | before | now |
|---|---|---|
| a | up to 1 of 2 lost, all told; latest event 0.0 s late | nothing lost; latest event 0.0 s late |
| b | – | nothing lost; latest event 0.0 s late |
`
	if got := Compare(rows); got != want {
		t.Errorf("got  %s, want %s", got, want)
	}
}

func TestReadNamesAWrongRow(t *testing.T) {
	if _, err := Read(strings.NewReader("{}\n| a |\n")); err == nil || !strings.Contains(err.Error(), "row 2") {
		t.Errorf("got %v, want an error about row 2", err)
	}
}
