package caddymodule

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// frames are those of a poll's answer.
func (s *site) poll(query, body string, header ...string) (frames []map[string]any) {
	s.t.Helper()
	method := "GET"
	if body != "" {
		method = "POST"
		header = append(header, "Content-Type: application/json", "Cookie: csrftoken=t")
	}
	resp, text := s.request(method, query, body, header...)
	var answer struct {
		Frames []map[string]any `json:"frames"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" {
		s.t.Fatalf("%d %q: %v", resp.StatusCode, text, err)
	}
	return answer.Frames
}

// kinds are the types of frames.
func kinds(frames []map[string]any) (list []string) {
	for _, f := range frames {
		kind, _ := f["type"].(string)
		for _, own := range []string{"accept", "groups_current", "error"} {
			if _, ok := f[own]; ok {
				kind = own
			}
		}
		list = append(list, kind)
	}
	return list
}

func TestLongPoll(t *testing.T) {
	s := newSite(t)
	s.mustLoad(withHistory, "encode gzip {\nminimum_length 1\n}\n"+streamSite)
	want := func(name string, frames []map[string]any, list ...string) {
		t.Helper()
		if got := kinds(frames); fmt.Sprint(got) != fmt.Sprint(list) {
			t.Fatalf("%s: %v, want %v; %v", name, got, list, frames)
		}
	}
	frames := s.poll("/websocket/?group=job_events-1&wait=0", "")
	want("no wait", frames, "accept", "groups_current", "subscribed")
	place := frames[2]["position"].(string)
	s.emitText("job_events-1", `{"n": 1}`)
	began := time.Now()
	frames = s.poll("/websocket/?wait=30", `{"groups": {"job_events": [1]}, "xrftoken": "t", "since": {"job_events-1": "`+place+`"}}`)
	want("missed", frames, "accept", "groups_current", "subscribed", "event")
	if frames[2]["recovered"] != true || frames[3]["position"] == "" {
		t.Errorf("%v", frames)
	}
	waiting := make(chan []map[string]any, 1)
	go func() {
		waiting <- s.poll("/websocket/?group=job_events-1&wait=30&last_event_id=job_events-1:"+frames[3]["position"].(string), "")
	}()
	s.awaitSubscriber("job_events-1")
	s.emitText("job_events-1", `{"n": 2}`)
	frames = <-waiting
	if n := len(frames); frames[n-1]["event"].(map[string]any)["n"] != 2.0 {
		t.Errorf("%v", frames)
	}
	want("denied", s.poll("/websocket/?group=broadcast-group_send&wait=30", ""), "accept", "error", "groups_current")
	want("a wrong token", s.poll("/websocket/?wait=30", `{"groups": {"a": ["b"]}, "xrftoken": "x"}`), "accept", "error")
	want("too old", s.poll("/websocket/?group=job_events-1&wait=30&last_event_id=job_events-1:x", ""),
		"accept", "groups_current", "subscribed")
	for _, damaged := range []string{"x", "job_events-1", "job_events-1:", "a-b:x,job_ev"} {
		frames = s.poll("/websocket/?group=job_events-1&wait=30&last_event_id="+damaged, "")
		want("damaged", frames, "accept", "groups_current", "subscribed")
		if frames[2]["recovered"] != false {
			t.Errorf("last_event_id %s: %v, want that events may be missing", damaged, frames[2])
		}
	}
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("the answers took %v", took)
	}

	go func() { waiting <- s.poll("/ws/a/?wait=30", "") }()
	s.awaitSubscriber("r_a")
	s.emit("r_a", "x.text", `{"text": "one"}`)
	frames = <-waiting
	want("a route", frames, "subscribed", "event")
	if frames[1]["text"] != "one" || frames[1]["group"] != "r_a" {
		t.Errorf("%v", frames)
	}
	place = frames[1]["position"].(string)
	s.emit("r_a", "x.text", `{"text": "two"}`)
	want("a route, missed", s.poll("/ws/a/?wait=30", `{"since": {"r_a": "`+place+`"}}`), "subscribed", "event")

	// A reload answers with what there is.
	go func() { waiting <- s.poll("/websocket/?group=job_events-1&wait=60", "") }()
	s.awaitSubscriber("job_events-1")
	began = time.Now()
	s.mustLoad(withHistory, streamSite)
	want("a reload", <-waiting, "accept", "groups_current", "subscribed")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the answer took %v", took)
	}
	testkit.Eventually(t, "all sessions end", func() bool { return node.Current().Hub.Stats().Sessions == 0 })
}
