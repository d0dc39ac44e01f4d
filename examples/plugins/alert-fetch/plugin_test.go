package main

import (
	"testing"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

const config = `{"webhook": "https://hooks.slack.com/services/x", "site": "https://awx.example.com"}`

func TestAlert(t *testing.T) {
	h := &edgerelay.Host{Config: config, Grants: []string{"fetch"}}
	for _, c := range []struct {
		payload, source string
		want            int
	}{
		{`{"status":"failed","unified_job_id":7}`, "layer", 1},
		{`{"status":"failed","unified_job_id":7}`, "history", 0},
		{`{"status":"error","unified_job_id":8}`, "peer", 1},
		{`{"status":"running","unified_job_id":7}`, "layer", 0},
		{`{"status":"failed"}`, "layer", 0},
	} {
		h.Fetched, h.Source = nil, c.source
		if r := h.Event(alert, "jobs-status_changed", c.payload); r.Verdict != "pass" || len(h.Fetched) != c.want {
			t.Errorf("%s from %s: verdict %s, %d requests, want %d", c.payload, c.source, r.Verdict, len(h.Fetched), c.want)
		}
	}
	h.Source, h.Fetched = "layer", nil
	h.Event(alert, "jobs-status_changed", `{"status":"failed","unified_job_id":7}`)
	want := `{"text":"job 7 ended: failed https://awx.example.com/#/jobs/playbook/7"}`
	if r := h.Fetched[0]; r.Body != want || r.URL != "https://hooks.slack.com/services/x" || r.Once != "job 7 ended: failed" {
		t.Errorf("%+v", r)
	}
}
