package caddymodule

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The files that Grafana and Prometheus load.
const (
	dashboardFile = "../deploy/grafana/edgerelay.json"
	rulesFile     = "../deploy/prometheus/edgerelay.rules.yml"
)

var (
	metricName = regexp.MustCompile(`\bedgerelay_\w+`)
	labelUse   = regexp.MustCompile(`(?:[{,]\s*(\w+)\s*(?:=~|!=|!~|=)|\bby \(([\w, ]+)\)|\{\{\s*(?:\$labels\.)?(\w+)\s*\}\})`)
)

// check holds a PromQL expression, and a text with placeholders for labels, to the metrics that are documented, which
// are those that there are. It returns the metrics that the expression uses.
func check(t *testing.T, where, expr, text string, rows map[string]string) (used []string) {
	t.Helper()
	labels := []string{"job", "instance", "le", "value"}
	for _, name := range metricName.FindAllString(expr, -1) {
		if base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, ""); strings.Contains(rows[base], "| histogram |") {
			name = base
		}
		row := rows[name]
		if row == "" {
			t.Errorf("%s: there is no metric %s", where, name)
			continue
		}
		used = append(used, name)
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(strings.Split(row, "|")[3], -1) {
			labels = append(labels, m[1])
		}
	}
	if len(used) == 0 {
		t.Errorf("%s: %q has none of the relay's metrics", where, expr)
	}
	for _, m := range labelUse.FindAllStringSubmatch(expr+" "+text, -1) {
		for l := range strings.SplitSeq(m[1]+m[2]+m[3], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(labels, l) {
				t.Errorf("%s: %q and %q use the label %s, which the metrics do not have", where, expr, text, l)
			}
		}
	}
	return used
}

// promtool runs Prometheus's own checker.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v (scripts/install-test-deps.sh installs it)\n%s", args, err, out)
	}
}

type panel struct {
	ID         int
	Type       string
	Title      string
	GridPos    struct{ X, Y, W, H int }
	Datasource struct{ Type, UID string }
	Targets    []struct {
		Expr, LegendFormat, RefID string
		Datasource                struct{ Type, UID string }
	}
}

// The dashboard is of a schema that Grafana takes, asks for metrics that exist, in PromQL that Prometheus takes, and
// shows all of them.
func TestDashboard(t *testing.T) {
	raw, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID, Title    string
		SchemaVersion int
		Panels        []panel
		Templating    struct {
			List []struct{ Name, Type, Query, Definition any }
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if d.SchemaVersion < 39 || d.Title == "" || d.UID == "" || len(d.Templating.List) == 0 ||
		d.Templating.List[0].Type != "datasource" || d.Templating.List[0].Name != "datasource" {
		t.Errorf("schema %d, title %q, uid %q, variables %v", d.SchemaVersion, d.Title, d.UID, d.Templating.List)
	}
	rows := documented(t)
	ids, shown := map[int]bool{}, map[string]bool{}
	taken := map[[2]int]string{}
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("panel %d %q: the id is there twice, or there is no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.GridPos.W < 1 || p.GridPos.H < 1 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q is not within 24 columns: %+v", p.Title, p.GridPos)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" {
					t.Fatalf("panel %q lies over %q", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %q has no query, or a data source of its own", p.Title)
		}
		for _, q := range p.Targets {
			if q.Datasource.UID != "${datasource}" || q.RefID == "" {
				t.Errorf("panel %q: a query with a data source of its own, or without a name", p.Title)
			}
			for _, name := range check(t, p.Title, q.Expr, q.LegendFormat, rows) {
				shown[name] = true
			}
			expr := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*").Replace(q.Expr)
			rules = append(rules, rule{fmt.Sprint("dashboard:q", len(rules)), expr})
		}
	}
	for name := range rows {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yml") // JSON is YAML
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

// The alerts use metrics that exist, are documented, and fire when they should and not before.
func TestAlerts(t *testing.T) {
	raw, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := documented(t)
	alerts := regexp.MustCompile(`(?s)- alert: (\w+)\n\s+expr: ([^\n]+)\n(.*?summary: [^\n]+\n[^\n]+\n)`).FindAllStringSubmatch(string(raw), -1)
	if n := strings.Count(string(raw), "- alert:"); len(alerts) != n || n == 0 {
		t.Fatalf("read %d of %d alerts", len(alerts), n)
	}
	const casesFile = "testdata/alerts.yml"
	cases, err := os.ReadFile(casesFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alerts {
		check(t, a[1], a[2], a[3], rows)
		if !strings.Contains(string(cases), a[1]) {
			t.Errorf("%s has no case of the alert %s", casesFile, a[1])
		}
		if !strings.Contains(string(docs), "| `"+a[1]+"` |") {
			t.Errorf("docs/observability.md does not name the alert %s", a[1])
		}
		if !strings.Contains(a[3], "severity: ") || !strings.Contains(a[3], "description: ") {
			t.Errorf("%s: an alert has a severity, and says what to do", a[1])
		}
	}
	promtool(t, "check", "rules", rulesFile)
	promtool(t, "test", "rules", casesFile)
}
