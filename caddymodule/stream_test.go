package caddymodule

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/ssetest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// withHistory are lines of the global option.
const withHistory = "auth none\norigins https://good.example\nhistory job_events-* r_*"

// streamSite is a site with AWX's path and a route.
const streamSite = `edgerelay {
	path /websocket/
	route /ws/{room}/ {
		groups r_{room}
		on x.text text text
		on x.binary binary data
		first text "hello {room}"
	}
}
respond "next"`

// emitText publishes an event for clients of AWX's protocol.
func (s *site) emitText(group, data string) {
	s.t.Helper()
	if status, body := s.post("/edgerelay/publish", `{"group": "`+group+`", "data": `+data+`}`); status != 200 {
		s.t.Fatalf("publish: %d %s", status, body)
	}
}

// request sends a request, and returns the status and the body.
func (s *site) request(method, path, body string, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return resp, ""
	}
	b, _ := io.ReadAll(resp.Body)
	return resp, string(b)
}

func TestEventStream(t *testing.T) {
	s := newSite(t)
	s.mustLoad(withHistory, streamSite)
	url := "http://" + s.addr
	one := ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&padding=1")
	two := ssetest.Open(t, http.DefaultClient, url+"/websocket/?groups="+`{"job_events":[1,2],"jobs":["x"]}`)
	framed := ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&protocol=edgerelay.events.v1")
	for _, name := range []string{"Cache-Control: no-cache, no-transform", "X-Accel-Buffering: no"} {
		name, value, _ := strings.Cut(name, ": ")
		if got := one.Response.Header.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	one.Want("subscribed", `{"type":"subscribed","group":"job_events-1"`)
	for range 3 {
		two.Want("subscribed", "")
	}
	framed.Want("", `{"accept": true`)
	framed.Want("", `{"groups_current": ["job_events-1"]`)
	framed.Want("", `{"type":"subscribed"`)

	s.emitText("job_events-1", `{"n":  1}`)
	first := one.Want("", `{"n":  1}`)
	if !strings.HasPrefix(first.ID, "job_events-1:") || strings.Contains(first.ID, ",") || one.Retry != 2*time.Second || one.Comments != 1 {
		t.Errorf("got %+v, retry %v, %d comments", first, one.Retry, one.Comments)
	}
	two.Want("", `{"n":  1}`)
	if e := framed.Want("", `{"type":"event","group":"job_events-1"`); e.ID != first.ID {
		t.Errorf("the frame has the id %q, want %q", e.ID, first.ID)
	}
	s.emitText("jobs-x", `"without history"`)
	two.Want("", `"without history"`)
	s.emitText("job_events-2", `{"n": 2}`)
	both := two.Want("", `{"n": 2}`)
	if !strings.Contains(both.ID, first.ID) || !strings.Contains(both.ID, "job_events-2:") || strings.Contains(both.ID, "jobs-x") {
		t.Errorf("the id is %q", both.ID)
	}

	// A client that comes back has missed nothing in any of its groups.
	two.Close()
	s.emitText("job_events-1", `{"n": 3}`)
	s.emitText("job_events-2", `{"n": 4}`)
	for _, back := range []*ssetest.Client{
		ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&group=job_events-2&last_event_id=x", "Last-Event-ID: "+both.ID),
		ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&group=job_events-2&last_event_id="+both.ID),
	} {
		want := map[string]bool{`{"n": 3}`: true, `{"n": 4}`: true}
		for recovered := 0; recovered < 2 || len(want) > 0; {
			e, err := back.Next()
			if err != nil {
				t.Fatal(err)
			}
			if e.Name == "subscribed" && strings.Contains(e.Data, `"recovered":true`) {
				recovered++
			}
			delete(want, e.Data)
		}
	}
	lost := ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&last_event_id=job_events-1:nonsense")
	if e := lost.Want("subscribed", ""); !strings.Contains(e.Data, `"recovered":false,"reason":"unknown_position"`) {
		t.Errorf("got %+v", e)
	}
	latest := ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-2&latest=1")
	latest.Want("", `{"n": 4}`)

	stats := node.Current().Hub.Stats()
	if stats.ByDoor[relay.DoorEventStream] < 5 {
		t.Errorf("%v clients by door", stats.ByDoor)
	}
	sessions, _ := node.Current().Hub.Sessions(hub.SessionFilter{Group: "job_events-1"}, 0, 10)
	if len(sessions) == 0 || sessions[0].Door != relay.DoorEventStream {
		t.Errorf("%+v", sessions)
	}
	one.Close()
	framed.Close()
}

func TestRouteStream(t *testing.T) {
	s := newSite(t)
	s.mustLoad(withHistory, streamSite)
	url := "http://" + s.addr + "/ws/a/"
	c := ssetest.Open(t, http.DefaultClient, url)
	framed := ssetest.Open(t, http.DefaultClient, url+"?protocol=edgerelay.events.v1")
	c.Want("", "hello a")
	framed.Want("", `{"type":"first","text":"hello a"}`)
	c.Want("subscribed", "")
	s.emit("r_a", "x.text", `{"text": "one\ntwo é"}`)
	e := c.Want("", "one\ntwo é")
	if !strings.HasPrefix(e.ID, "r_a:") {
		t.Errorf("the id is %q", e.ID)
	}
	framed.Want("", `{"type":"subscribed"`)
	framed.Want("", `{"type":"event","group":"r_a","position":"`+strings.TrimPrefix(e.ID, "r_a:")+`","text":"one\ntwo \u00e9"}`)
	c.Close()
	s.emit("r_a", "x.text", `{"text": "three"}`)
	c = ssetest.Open(t, http.DefaultClient, url, "Last-Event-ID: "+e.ID)
	c.Want("", "hello a")
	if e := c.Want("subscribed", ""); !strings.Contains(e.Data, `"recovered":true`) {
		t.Errorf("got %+v", e)
	}
	c.Want("", "three")
	if resp, _ := s.request("GET", "/ws/../", "", "Accept: text/event-stream"); resp.StatusCode == 200 && resp.Header.Get("Content-Type") == "text/event-stream" {
		t.Error("a path of no route is served")
	}
	// A route that goes ends its streams, and only them.
	s.mustLoad(withHistory, "edgerelay {\npath /websocket/\n}\nrespond next")
	c.Want("close", `{"code":1012,"reason":"route changed; reconnect"}`)
	if _, err := c.Next(); err != io.EOF {
		t.Errorf("%v behind the end", err)
	}
}

// awaitSubscriber waits until a client has subscribed to a group: a session exists before its subscriptions do.
func (s *site) awaitSubscriber(group string) {
	s.t.Helper()
	testkit.Eventually(s.t, "a client of "+group, func() bool {
		page, _ := node.Current().Hub.Groups(group, hub.GroupsByName, "", 1)
		return len(page) == 1 && page[0].Group == group && page[0].Subscribers == 1
	})
}
