package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

type summary struct {
	Job                          string
	Ok, Changed, Failed, Skipped int
	Total                        int
	PerSecond                    int `json:"per_second"`
	Task                         string
	Finished                     bool
}

func host() *edgerelay.Host {
	jobs, order = map[string]*job{}, nil
	h := &edgerelay.Host{Grants: []string{"clock", "emit", "kv", "tick"}, Joins: []string{prefix + "*"}}
	h.SetTime(time.UnixMilli(1_767_323_045_000))
	return h
}

// send is an event of a job; all of them are dropped.
func send(t *testing.T, h *edgerelay.Host, job, payload string) {
	t.Helper()
	if r := h.Event(count, prefix+job, payload); r.Verdict != "drop" || r.Err != nil {
		t.Fatalf("%s: %s, %v", payload, r.Verdict, r.Err)
	}
}

// tick returns the summaries of a tick, 250 ms after the one before.
func tick(t *testing.T, h *edgerelay.Host) (summaries []summary) {
	t.Helper()
	h.Advance(250 * time.Millisecond)
	r := h.Tick(summarize)
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	for _, e := range r.Emitted {
		var s summary
		if err := json.Unmarshal([]byte(e.Payload), &s); err != nil || e.Group != prefix+s.Job {
			t.Fatalf("%s to %s: %v", e.Payload, e.Group, err)
		}
		summaries = append(summaries, s)
	}
	return summaries
}

func TestEventsBecomeOneSummary(t *testing.T) {
	h := host()
	send(t, h, "42", `{"event":"playbook_on_start","total":2504}`)
	send(t, h, "42", `{"event":"playbook_on_task_start","task":"install"}`)
	for range 2500 {
		send(t, h, "42", `{"event":"runner_on_ok","changed":false}`)
	}
	for _, event := range []string{
		`"runner_on_ok","changed":true`, `"runner_on_failed"`, `"runner_on_unreachable"`, `"runner_on_skipped"`, `"verbose"`,
	} {
		send(t, h, "42", `{"event":`+event+`}`)
	}
	want := summary{"42", 2500, 1, 2, 1, 2504, 10016, "install", false}
	if got := tick(t, h); len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := tick(t, h); len(got) != 0 {
		t.Errorf("without an event: %+v", got)
	}
	send(t, h, "42", `{"event":"playbook_on_stats"}`)
	if got := tick(t, h); len(got) != 1 || !got[0].Finished {
		t.Errorf("at the end: %+v", got)
	}
	if len(jobs) != 0 {
		t.Errorf("%d jobs stay in memory", len(jobs))
	}
}

func TestLatePageGetsTheSummary(t *testing.T) {
	h := host()
	shake := edgerelay.Handshake{Param: map[string]string{"job": "42"}}
	early := h.Connect(shake)
	send(t, h, "42", `{"event":"runner_on_ok"}`)
	tick(t, h)
	late := h.Connect(shake)
	if n := len(early.Received()); n != 0 {
		t.Errorf("a page of a job without events got %d frames", n)
	}
	if got := late.Received(); len(got) != 1 || got[0] != `{"job":"42","ok":1,"changed":0,"failed":0,"skipped":0,`+
		`"total":0,"per_second":4,"task":"","finished":false}` {
		t.Error(got)
	}
	if c := h.Connect(edgerelay.Handshake{Param: map[string]string{"job": "a b"}}); c.Accepted {
		t.Error("a job that is no group is accepted")
	}
}

// TestLostInstance: another instance goes on with the counts of the last summary.
func TestLostInstance(t *testing.T) {
	h := host()
	send(t, h, "42", `{"event":"playbook_on_start","total":10}`)
	send(t, h, "42", `{"event":"runner_on_ok"}`)
	tick(t, h)
	jobs, order = map[string]*job{}, nil
	send(t, h, "42", `{"event":"runner_on_ok"}`)
	if got := tick(t, h); len(got) != 1 || got[0].Ok != 2 || got[0].Total != 10 || got[0].PerSecond != 4 {
		t.Errorf("%+v", got)
	}
}

// TestManyJobs: a tick may emit 16 events, and later ticks go on.
func TestManyJobs(t *testing.T) {
	h := host()
	for i := range 40 {
		send(t, h, fmt.Sprint(i), `{"event":"runner_on_ok"}`)
	}
	seen := map[string]bool{}
	for _, want := range []int{16, 16, 8, 0} {
		got := tick(t, h)
		if len(got) != want {
			t.Errorf("%d summaries, want %d", len(got), want)
		}
		for _, s := range got {
			seen[s.Job] = true
		}
	}
	if len(seen) != 40 {
		t.Errorf("%d jobs", len(seen))
	}
	h.Advance(time.Hour)
	if tick(t, h); len(jobs) != 0 {
		t.Errorf("%d silent jobs stay in memory", len(jobs))
	}
}

func TestReplaysDoNotCount(t *testing.T) {
	h := host()
	h.Source = "history"
	h.Event(count, prefix+"42", `{"event":"runner_on_ok"}`)
	if len(jobs) != 0 {
		t.Error("a replay counts")
	}
}
