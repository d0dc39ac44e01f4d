package caddymodule

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/relay"
)

// policyOf returns the policy of a Caddyfile.
func policyOf(t *testing.T, lines string) (relay.HistoryPolicy, error) {
	t.Helper()
	config, err := adapt(global("auth none\n" + lines))
	if err != nil {
		return relay.HistoryPolicy{}, err
	}
	var c struct{ Apps struct{ Edgerelay App } }
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	return c.Apps.Edgerelay.historyPolicy()
}

func TestHistorySettings(t *testing.T) {
	t.Setenv("HISTORY_KEY", "0123456789abcdef")
	got, err := policyOf(t, `
		history job_events-* project_update_events-* {
			count 10
			size 64KiB
			age 30s
		}
		history jobs-* {
			groups schedules-changed
			count 5
		}
		history *
		history_key {env.HISTORY_KEY}`)
	if err != nil {
		t.Fatal(err)
	}
	first, second := relay.HistoryLimits{Count: 10, Bytes: 64 << 10, Age: 30 * time.Second}, relay.DefaultHistoryLimits
	second.Count = 5
	want := []relay.HistoryRule{
		{Pattern: "job_events-*", HistoryLimits: first},
		{Pattern: "project_update_events-*", HistoryLimits: first},
		{Pattern: "jobs-*", HistoryLimits: second},
		{Pattern: "schedules-changed", HistoryLimits: second},
		{Pattern: "*", HistoryLimits: relay.DefaultHistoryLimits},
	}
	if !slices.Equal(got.Rules, want) || got.Key != "0123456789abcdef" {
		t.Errorf("got  %+v, key %q\nwant %+v", got.Rules, got.Key, want)
	}
}

func TestHistoryMistakes(t *testing.T) {
	t.Setenv("SHORT_KEY", "0123456789")
	for lines, want := range map[string]string{
		"history":                              "no groups; name them",
		"history job:*":                        `no group has the name "job:*"`,
		"history job_events-?":                 `no group has the name "job_events-?"`,
		"history {env.NONE}":                   "no group has the name",
		"history jobs-*\nhistory a-* jobs-*":   "jobs-* is listed twice",
		"history jobs-* {\ncount 0\n}":         "count",
		"history jobs-* {\ncount -1\n}":        "count",
		"history jobs-* {\nsize -1\n}":         "invalid size",
		"history jobs-* {\nsize 0\n}":          "use one above 0",
		"history jobs-* {\nage 0\n}":           "age",
		"history jobs-* {\nage soon\n}":        "invalid duration",
		"history jobs-* {\nmax 5\n}":           "it has groups, count, size and age",
		"history jobs-*\nhistory_key x":        "the key has 1 bytes",
		"history_key {env.SHORT_KEY}":          "the key has 10 bytes",
		"history_key {env.DEFINITELY_NOT_SET}": "history_key",
		"history_key":                          "history_key",
	} {
		if _, err := policyOf(t, lines); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", lines, err, want)
		}
	}
}

// The admin API, the command status and the metrics describe the history of a group.
func TestHistoryOfAGroup(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none\nhistory jobs-* {\nage 90s\n}", "edgerelay")
	for path, want := range map[string]int{"jobs-summary": 200, "other-1": 404, "a%20b": 400} {
		if code, body := s.get("http://" + s.admin + "/edgerelay/groups/" + path + "/history"); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
	client := s.subscribe("jobs-summary")
	for range 2 {
		if code, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": {}}`); code != 200 {
			t.Fatal(code, body)
		}
		next(t, client, "{}")
	}
	_, body := s.get("http://" + s.admin + "/edgerelay/groups/jobs-summary/history")
	var g admin.GroupHistory
	if err := json.Unmarshal([]byte(body), &g); err != nil {
		t.Fatal(err)
	}
	want := admin.HistoryLimits{Count: 1000, Bytes: 1 << 20, Age: 90}
	if g.Events != 2 || g.Bytes < 4 || g.Oldest.IsZero() || g.Newest.Before(g.Oldest) || g.Limits != want {
		t.Errorf("%s", body)
	}
	var status admin.Status
	_, body = s.get("http://" + s.admin + "/edgerelay/status")
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	if h := status.Histories; h == nil || h.Kind != "ring" || h.Groups != 1 || h.Recorded != 2 || h.Trouble != "" {
		t.Errorf("%s", body)
	}
	var overview admin.Overview
	_, body = s.get("http://" + s.admin + "/edgerelay/overview")
	if err := json.Unmarshal([]byte(body), &overview); err != nil {
		t.Fatal(err)
	}
	if len(overview.TopGroups) != 1 || overview.TopGroups[0].History == nil || overview.TopGroups[0].History.Events != 2 {
		t.Errorf("%s", body)
	}
	if f := s.scrape()["edgerelay_history_healthy"]; f == nil || f.GetMetric()[0].GetGauge().GetValue() != 1 {
		t.Errorf("edgerelay_history_healthy: %v", f)
	}
}

// A tail begins with the history: the last events, those of a time, or those after a position.
func TestTailSince(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none\nhistory jobs-*", "edgerelay")
	client := s.subscribe("jobs-summary")
	for i := range 3 {
		if code, body := s.post("/edgerelay/publish", fmt.Sprintf(`{"group": "jobs-summary", "data": %d}`, i)); code != 200 {
			t.Fatal(code, body)
		}
		next(t, client, fmt.Sprint(i))
	}
	// lines returns the first lines of a tail.
	lines := func(since string, count int) (list []string, positions []string) {
		t.Helper()
		resp, err := http.Get("http://" + s.admin + "/edgerelay/groups/jobs-summary/tail?since=" + url.QueryEscape(since))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for range count {
			line, err := r.ReadBytes('\n')
			var e struct {
				Source, Position string
				Data             json.RawMessage
				NotRecovered     string `json:"not_recovered"`
			}
			if err != nil || json.Unmarshal(line, &e) != nil {
				t.Fatalf("since %s: %s, %v", since, line, err)
			}
			list, positions = append(list, strings.TrimSpace(e.Source+" "+string(e.Data)+e.NotRecovered)), append(positions, e.Position)
		}
		return list, positions
	}
	all := []string{"history 0", "history 1", "history 2"}
	got, positions := lines("5m", 3)
	if !slices.Equal(got, all) {
		t.Errorf("since 5m: %q", got)
	}
	for since, want := range map[string][]string{
		"latest 2": all[1:], "1": all[2:], positions[0]: all[1:], "2006-01-02T15:04:05Z": all,
		relay.Position{Micros: 1}.String(): {"unknown_position"},
	} {
		if got, _ := lines(since, len(want)); !slices.Equal(got, want) {
			t.Errorf("since %s: %q, want %q", since, got, want)
		}
	}
	for query, want := range map[string]int{
		"jobs-summary/tail?since=soon": 400, "jobs-*/tail?since=5m": 400, "other-1/tail?since=5m": 404, "jobs-summary/tail?since=-5m": 400,
	} {
		if code, body := s.get("http://" + s.admin + "/edgerelay/groups/" + query); code != want {
			t.Errorf("%s: %d %s, want %d", query, code, body, want)
		}
	}
}
